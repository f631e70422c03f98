"""Storage that speaks S3, for as long as a test needs it: moto's, over TLS, which lets in who signs with its key only.

    python bucket.py ADDRESS DIRECTORY BUCKET

serves, with the objects in memory and large ones in files of DIRECTORY, until it is ended. Before that it writes DIRECTORY/authority.pem and one line
of JSON: port, key and key_secret. Who uses it must know the address by its name, ENDPOINT, which the certificate is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.serving import make_server

from praetor.pki.authority import Wanted, make

ACCOUNT, PARTITION = "123456789012", "aws"
ENDPOINT = "storage.lab.example"
# Else it would take the first word of ENDPOINT for the bucket.
ENVIRONMENT = {**os.environ, "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass(frozen=True)
class Bucket:
    """A bucket that is served, and what opens it."""

    name: str
    port: int
    key: str
    key_secret: str
    authority: Path

    def variable(self, **other: str | int) -> str:
        """Return the option that makes it the second repository."""
        told = {
            "bucket": self.name,
            "path": "/prod",
            "endpoint": ENDPOINT,
            "port": self.port,
            "region": "us-east-1",
            "key": self.key,
            "key_secret": self.key_secret,
            "passphrase": "of the second repository",
            "authority_file": str(self.authority),
            "uri_style": "path",
            **other,
        }
        return json.dumps({"pgbackrest_s3": told})


@contextlib.contextmanager
def bucket(address: str, directory: Path, name: str = "backups") -> Iterator[Bucket]:
    """Serve a bucket on an address of this machine."""
    command = [sys.executable, __file__, address, str(directory), name]
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT) as process,
    ):
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield Bucket(name, told["port"], told["key"], told["key_secret"], directory / "authority.pem")
        finally:
            process.terminate()


def _certificate(directory: Path) -> ssl.SSLContext:
    now = datetime.now(UTC)
    authority = make(directory / "pki", "storage", now)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "cert.pem").write_text(
        authority.issue(public.decode(), Wanted((ENDPOINT,), client=False), 30, now), encoding="ascii"
    )
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / "authority.pem").write_text(authority.pem, encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def serve(address: str, directory: Path, name: str) -> None:
    """Serve until this process is ended."""
    from moto import settings  # noqa: PLC0415  (the tests that only use a bucket need none of it)
    from moto.iam.models import iam_backends  # noqa: PLC0415
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from moto.s3.models import s3_backends  # noqa: PLC0415

    class Handler(MotoRequestHandler):  # type: ignore[misc]  # its types are left out: mypy would read all of moto
        """Ends a connection as TLS wants it: OpenSSL takes any other end for an attack."""

        def finish(self) -> None:
            super().finish()
            self.connection.settimeout(2)
            with contextlib.suppress(OSError, ValueError):
                self.connection.unwrap()

    iam: Any = iam_backends[ACCOUNT][PARTITION]
    iam.create_user(region_name="us-east-1", user_name="backups")
    iam.put_user_policy("backups", "everything", json.dumps(EVERYTHING))
    key = iam.create_access_key("backups")
    s3_backends[ACCOUNT][PARTITION].create_bucket(name, "us-east-1")
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    server = make_server(
        address,
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=Handler,
        ssl_context=_certificate(directory),
    )
    told = {"port": server.port, "key": key.access_key_id, "key_secret": key.secret_access_key}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
