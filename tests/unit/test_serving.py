"""A request's whole way: the role's NGINX, a release's vassal file, uWSGI itself, and an app that does what apps do."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import pytest
from project import ROOT, ansible

from praetor.build.parts import site, slot, vassal
from praetor.documents import Entry
from praetor.host import maintenance, uwsgi
from praetor.host.gate import wait_until

NGINX = shutil.which("nginx", path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(
    NGINX is None or os.geteuid() != 0, reason="needs Debian's NGINX, and root as it has it"
)

REQUEST_S = 3
CLIENT = "192.0.2.1"  # of the proxy that the tests are
BCRYPT = "$2y$10$abcdefghijklmnopqrstuuBn4zCMQTveWiqfonsRlWbUAQJsfZISO"  # of the same password
MANY = 40 * 2**20  # bytes: more than NGINX's buffers and the kernel's take
APP = """
import os, re, socket, subprocess, sys, threading, time
from urllib.parse import parse_qs

# As an ORM does whose tables are made while the app is imported: a connection, and a lock for the threads that use it.
database = socket.socket(socket.AF_UNIX)
database.connect(os.path.join(os.path.dirname(__file__), "database.sock"))
answers, in_use = database.makefile(), threading.Lock()

def app(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("s", ["0"])[0])
    kind, headers, length = "text/plain", [], None
    if path == "/sleep":
        time.sleep(seconds)
        body = [b"slept"]
    elif path == "/told":  # after the watch has told a worker to take nothing new, and has had the time to end it
        log = os.path.join(os.path.dirname(__file__), "../../log/slot")
        while open(log).read().count("takes no new requests") <= int(query["n"][0]):
            time.sleep(0.05)
        time.sleep(0.75)
        body = [b"told"]
    elif path == "/lock":  # C code that keeps Python's lock for longer than anybody waits
        re.match("(a+)+$", "a" * 60 + "b")
        body = [b"matched"]
    elif path == "/spin":
        while True:
            pass
    elif path == "/breaks":
        def rows():
            for number in range(int(query["rows"][0])):
                yield b"row %d\\n" % number
            raise RuntimeError("the database went away")
        body = rows()
    elif path == "/stops":
        def rows():
            while True:
                yield b"row\\n" * 1000
                time.sleep(0.05)
        body = rows()
    elif path == "/short":
        headers = [("Content-Length", "10")]
        body = [b"abc"]
    elif path == "/slow/many":
        body = (b"0123456789abcdef" * 65536 for _ in range(40))
    elif path == "/headers":
        headers = [("X-Policy-%d" % number, "a" * 10000) for number in range(3)]
        body = [b"ok"]
    elif path == "/events":
        kind = "text/event-stream"
        def each():
            for number in range(int(query["n"][0])):
                yield b"data: %d\\n\\n" % number
                while not os.path.exists(os.path.join(os.path.dirname(__file__), "read")):
                    time.sleep(0.05)
                time.sleep(0.5)
        body = each()
    elif path == "/json":
        kind = "application/json"
        headers = [("ETag", '"one"')]
        if environ.get("HTTP_IF_NONE_MATCH") in ('W/"one"', '"one"'):
            start_response("304 Not Modified", headers)
            return []
        body = [b'{"text": "' + b"text " * 2000 + b'"}']
    elif path == "/child":
        done = subprocess.run([sys.executable, "-c", "import praetor, sys; print(sys.prefix)"], capture_output=True, text=True)
        body = [done.stdout.strip().encode()]
    elif path == "/host":
        body = [" ".join([environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SERVER_PORT"], environ["HTTP_X_FORWARDED_PORT"]]).encode()]
    elif path == "/client":
        body = [environ.get("SSL_CLIENT_S_DN", "nobody").encode()]
    elif path == "/where":
        body = [(environ["SCRIPT_NAME"] + " " + environ["PATH_INFO"]).encode()]
    elif environ["REQUEST_METHOD"] == "POST":
        body = [str(len(environ["wsgi.input"].read())).encode()] if path != "/unread" else [b"unread"]
    elif path == "/row":
        with in_use:
            database.sendall(query["n"][0].encode() + b"\\n")
            body = [answers.readline().strip().encode()]
    elif path == "/pid":
        body = [str(os.getpid()).encode()]
    else:
        body = [b"ok"]
    start_response("200 OK", [("Content-Type", kind), *headers])
    return body
"""
ENTRY: dict[str, Any] = {
    "name": "api",
    "server_names": ["localhost"],
    "redirect_names": ["old.example.org"],
    "mount": "",
    "wsgi": "project:app",
    "workers": 2,
    "threads": 2,
    "preload": False,
    "static": {"/static": "static", "/favicon.ico": "static/favicon.ico"},
    "http": {
        "compress": True,
        "stream_s": 20,
        "headers": {"X-Added": 'say "hello"'},
        "access": None,
        "paths": [{"path": "/slow", "request_s": 9, "body_mb": 9, "stream": False}],
        "directives": "location = /gone { return 410; }",
    },
    "health": {"path": "/where?of=live", "status": 200},
    "limits": {"request_s": REQUEST_S, "body_mb": 4, "memory_mb": 512},
}
# As on a host: the tree of URLs of the live release, and of the one before.
STATIC = {
    "live/static/app.js": b"live",
    "live/static/app.9f86d081884c.js": b"hashed",
    "live/static/main-BX7d9k2a.css": b"bundled",
    "live/static/report-20260101.txt": b"dated",
    "live/static/many.js": b"var text;\n" * 500,
    "live/static/many.js.gz": b"var text;\n" * 500,
    "live/static/module.mjs": b"export {};",
    "live/favicon.ico": b"icon",
    "before/static/app.js": b"before",
    "before/static/old.27fe1c2a9d00.js": b"old",
}
TEMPLATES = (
    "nginx.conf",
    "praetor/answers.conf",
    "praetor/listen_plain.conf",
    "praetor/listen_tls.conf",
    "praetor/static.conf",
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Rows(socketserver.StreamRequestHandler):
    """A database that answers each question with what was asked, after a moment."""

    def handle(self) -> None:
        """Answer until the connection ends."""
        for line in self.rfile:
            time.sleep(0.01)
            self.wfile.write(line)


class Serving:
    """NGINX and a slot behind it."""

    def __init__(self, place: Path, *, preload: bool, users: str = "", mount: str = "", authority: str = "") -> None:
        """Start all; `authority`: certificates of those whose clients are let in, over TLS with the key pair `server` in `place`."""
        self.place, self.port, self.port_http2, self.port_tls = place, free_port(), free_port(), free_port()
        self.authority = authority
        self.preload, self.users = preload, users
        # As the inventory's check makes them of an entry that names its mount.
        self.entry = ENTRY | {
            "preload": preload,
            "mount": mount,
            "static": {mount + path: named for path, named in ENTRY["static"].items()},
            "http": ENTRY["http"]
            | {
                "access": {"users": "USERS", "authority": authority or None} if users else None,
                "paths": [limits | {"path": mount + limits["path"]} for limits in ENTRY["http"]["paths"]],
            },
        }
        self.stats, self.socket = place / "run/api.1-a.1.stats", place / "run/api.1-a.1.sock"
        self.release, self.maintenance = place / "release", place / "maintenance"
        for directory in (self.release / "slot/praetor_slot", self.release / "src", place / "run", place / "log"):
            directory.mkdir(parents=True)
        for name, content in STATIC.items():
            path = place / "static" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        if mount:
            for tree in ("live", "before"):
                (place / "static" / tree / mount.strip("/")).symlink_to(".")
        (self.release / "venv").symlink_to(sys.prefix)
        (self.release / "src/project.py").write_text(APP, encoding="utf-8")
        for name, text in slot().items():
            (self.release / "slot/praetor_slot" / name).write_text(text, encoding="utf-8")
        self.database = socketserver.ThreadingUnixStreamServer(str(self.release / "src/database.sock"), Rows)
        self.database.daemon_threads, self.database.block_on_close = True, False
        threading.Thread(target=self.database.serve_forever, daemon=True).start()
        text = vassal(cast("Entry", self.entry)).replace("/run/uwsgi/api/", f"{place}/run/")
        (place / "api.1-a.1.ini").write_text(text, encoding="utf-8")
        self.log = place / "log/slot"
        self.uwsgi: subprocess.Popen[bytes] | None = None
        self.nginx = self.start_nginx()
        self.start()

    def start(self) -> None:
        """Start the slot, and wait until all of its workers have loaded the app."""
        program = [str(Path(sys.prefix) / "bin/uwsgi"), "--set-placeholder", f"release={self.release}", "--ini"]
        with self.log.open("ab") as log:
            self.uwsgi = subprocess.Popen(
                [*program, str(self.place / "api.1-a.1.ini")], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        assert wait_until(self.is_up, 120), self.log.read_text(encoding="utf-8")
        self.socket.chmod(0o666)

    def is_up(self) -> bool:
        """Whether all workers have loaded the app and are watched."""
        with contextlib.suppress(OSError, ValueError):
            return not self.counters().loading and "watch" in uwsgi.notes(self.stats.with_suffix(".state"))
        return False

    def counters(self) -> uwsgi.Counters:
        """What the slot counts."""
        return uwsgi.counters(self.stats, 60)

    def quiet(self) -> uwsgi.Counters:
        """The same, when it counts all that was answered: uWSGI does so after the answer."""
        assert wait_until(lambda: self.counters().busy == 0, 60)
        return self.counters()

    def start_nginx(self) -> subprocess.Popen[bytes]:
        """Render the role's configuration and run NGINX with it."""
        role, folder = ROOT / "roles/nginx", self.place / "nginx"
        for directory in (folder / "praetor", folder / "sites", self.maintenance):
            directory.mkdir(parents=True)
        for name in ("until.map", "allowed.geo"):
            (self.maintenance / name).touch()
        shutil.copy(role / "files/maintenance.html", self.maintenance / "page.html")
        (self.place / "users").write_text(self.users, encoding="utf-8")
        (self.place / "authority.pem").write_text(self.authority, encoding="utf-8")
        tls = bool(self.authority)
        leads = {"name": "main", "server_names": ["main.example"], "redirect_names": [], "mount": "", "static": {}}
        leads["http"] = ENTRY["http"] | {"paths": [], "headers": {}, "directives": None}
        entries = [self.entry, ENTRY | leads | {"joined": [self.entry]}] if self.entry["mount"] else [self.entry]
        for entry in entries:
            text = site(cast("Entry", entry), tls=tls, release="1-a")
            for there, here in (
                ("/srv/apps/api/access/1-a", self.place),
                ("/etc/praetor/tls/sites/api/fullchain.pem", self.place / "server.pem"),
                ("/etc/praetor/tls/sites/api/key.pem", self.place / "server.key"),
                ("/srv/apps/api/live.sock", self.socket),
                ("/srv/apps/main/live.sock", self.place / "none.sock"),
                ("/srv/apps/api/static", self.place / "static"),
                ("/var/log/nginx", self.place / "log"),
            ):
                text = text.replace(there, str(here))
            (folder / f"sites/{entry['name']}.conf").write_text(text, encoding="utf-8")
        given = {
            "nginx_tls": tls,
            "nginx_listen_tls": [f"127.0.0.1:{self.port_tls}"],
            "nginx_listen": [f"127.0.0.1:{self.port}", f"127.0.0.1:{self.port_http2} http2"],
            "nginx_status_port": 0,
            "nginx_maintenance_dir": str(self.maintenance),
            "nginx_trusted_proxies": ["127.0.0.1"],
            "nginx_pid_file": f"{self.place}/nginx.pid",
            "nginx_error_log": f"{self.place}/log/error.log",
            "nginx_worker_processes": "2",
            "ansible_facts": {"distribution_major_version": "12"},
            "ansible_python_interpreter": sys.executable,
        }
        tasks = [
            {
                "ansible.builtin.template": {
                    "src": f"{role}/templates/{Path(name).name}.j2",
                    "dest": f"{folder}/{name}",
                    "mode": "0644",
                }
            }
            for name in TEMPLATES
        ]
        files = [f"{role}/defaults/main.yml", f"{role}/vars/main.yml", f"{self.place}/given.json"]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks, "vars_files": files}
        (self.place / "given.json").write_text(json.dumps(given), encoding="utf-8")
        (self.place / "play.json").write_text(json.dumps([play]), encoding="utf-8")
        done = ansible("ansible-playbook", f"{self.place}/play.json")
        assert done.returncode == 0, done.stdout + done.stderr
        # The program alone may be here, without the directories and files of its package.
        (self.place / "mime.types").write_text(
            "types { text/html html; text/plain txt; application/javascript js; text/css css; }\n", encoding="utf-8"
        )
        places = "".join(
            f"    {kind}_temp_path {self.place}/temporary-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = (folder / "nginx.conf").read_text(encoding="utf-8")
        main = main.replace("/etc/nginx/mime.types", f"{self.place}/mime.types").replace(
            "http {\n", f"http {{\n{places}", 1
        )
        (folder / "nginx.conf").write_text(main, encoding="utf-8")
        checked = subprocess.run(
            [str(NGINX), "-t", "-c", f"{self.place}/nginx/nginx.conf"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        return subprocess.Popen([str(NGINX), "-c", f"{self.place}/nginx/nginx.conf", "-g", "daemon off;"])

    def ask(
        self, path: str, method: str | None = None, body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request and take the whole answer.

        Raises:
            http.client.HTTPException, OSError: the answer broke off.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or "GET", path, body, {"Host": "localhost", **named})
            answer = connection.getresponse()
            return answer, answer.read()

    def ask_over_tls(self, path: str, who: str = "", **headers: str) -> tuple[int, bytes]:
        """Status and body, with the certificate of `who`, whose key pair is in the directory of all files."""
        context = ssl.create_default_context(cafile=str(self.place / "server.pem"))
        if who:
            context.load_cert_chain(self.place / f"{who}.pem", self.place / f"{who}.key")
        connection = http.client.HTTPSConnection("localhost", self.port_tls, timeout=60, context=context)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"X-Forwarded-For": CLIENT, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def close(self) -> None:
        """End all."""
        self.database.shutdown()
        self.database.server_close()
        for process in (self.nginx, self.uwsgi):
            if process:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(60)
                finally:
                    process.kill()


@pytest.fixture(scope="module", params=[False, True], ids=["loaded by each worker", "loaded once"])
def serving(request: pytest.FixtureRequest) -> Iterator[Serving]:
    """Return a running site."""
    # Not below pytest's own directory: NGINX's workers are www-data.
    with tempfile.TemporaryDirectory(prefix="s") as directory:
        Path(directory).chmod(0o755)
        running = Serving(Path(directory), preload=request.param)
        try:
            yield running
        finally:
            running.close()


def test_an_answer_that_the_app_breaks_off_is_broken_for_the_client_and_counted(serving: Serving) -> None:
    before = serving.quiet()
    for rows in (5, 5_000):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            serving.ask(f"/breaks?rows={rows}")
    with pytest.raises(http.client.IncompleteRead):
        serving.ask("/short")
    assert serving.quiet().exceptions - before.exceptions == 2


def test_an_answer_whose_worker_dies_is_broken_for_the_client(serving: Serving) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=30)
    connection.request("GET", "/stops", headers={"Host": "localhost"})
    answer = connection.getresponse()
    answer.read(1000)
    # Past its limit it is ended.
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    assert wait_until(serving.is_up, 60)


@pytest.mark.parametrize("how", ["/sleep?s=300", "/lock", "/spin"])
def test_a_request_that_outlives_its_limit_is_ended_whatever_others_do(serving: Serving, how: str) -> None:
    before, done = serving.counters(), threading.Event()
    others: list[int] = []

    def traffic() -> None:
        while not done.is_set():
            status = 0  # broken off: it was in the app, or on its way, when the lock was taken
            with contextlib.suppress(http.client.HTTPException, OSError):
                status = serving.ask("/")[0].status
            others.append(status)
            time.sleep(0.02)

    threads = [threading.Thread(target=traffic) for _ in range(2)]
    for thread in threads:
        thread.start()
    answer, _ = serving.ask(how)
    done.set()
    for thread in threads:
        thread.join()
    assert answer.status in {502, 504}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert wait_until(lambda: serving.counters().ended > before.ended, 60), "NGINX alone gave it up"
    # One of the others may have begun in the app when the lock was taken: it goes with it, and is counted too.
    assert serving.counters().ended - before.ended <= 1 + len(others) - others.count(200)
    assert others.count(200) > 1
    assert wait_until(serving.is_up, 60)


def test_what_else_a_worker_holds_is_answered_before_it_is_ended(serving: Serving) -> None:
    before, answers = serving.quiet(), []
    told = serving.log.read_text(encoding="utf-8").count("takes no new requests")
    hung = [threading.Thread(target=serving.ask, args=("/sleep?s=300",)) for _ in range(2)]
    for thread in hung:
        thread.start()
    assert wait_until(lambda: serving.counters().busy == 2, 60)
    time.sleep(REQUEST_S - 0.8)
    # The two threads that are left begin with these shortly before the others are over their limit, and end only after that.
    rest = [threading.Thread(target=lambda: answers.append(serving.ask(f"/told?n={told}")[0].status)) for _ in range(2)]
    for thread in rest:
        thread.start()
    for thread in [*hung, *rest]:
        thread.join()
    assert answers == [200, 200]
    assert wait_until(lambda: serving.counters().ended - before.ended == 2, 60)
    assert wait_until(serving.is_up, 60)


def test_a_path_can_have_limits_of_its_own(serving: Serving) -> None:
    before = serving.counters()
    assert serving.ask("/slow", "POST", b"x" * 5_000_000)[1] == b"5000000"
    assert serving.ask("/", "POST", b"x" * 5_000_000)[0].status == 413
    assert serving.counters().ended == before.ended


def take(connection: socket.socket, rate: float, seconds: float) -> bytes:
    """Read at so many bytes a second, for some seconds."""
    taken, began = b"", time.monotonic()
    while time.monotonic() - began < seconds:
        taken += connection.recv(int(rate / 10))
        time.sleep(0.1)
    return taken


@pytest.mark.parametrize("rate", [20_000, 100_000])
def test_a_slow_client_gets_a_whole_answer_and_holds_no_worker(serving: Serving, rate: int) -> None:
    before = serving.counters()
    clients = []
    for _ in range(6):
        client = socket.create_connection(("127.0.0.1", serving.port), 60)
        client.sendall(b"GET /slow/many HTTP/1.0\r\nHost: localhost\r\n\r\n")
        clients.append(client)
    taken = [take(client, rate, 0.5) for client in clients]
    assert wait_until(lambda: serving.counters().busy == 0, 60), "NGINX left an answer with its worker"
    assert serving.ask("/")[0].status == 200
    time.sleep(10)  # longer than a worker may work here, and than uWSGI would wait
    for client, begun in zip(clients, taken, strict=True):
        with client, client.makefile("rb") as rest:
            head, _, body = (begun + rest.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) == MANY
    after = serving.counters()
    assert (after.ended, after.respawns) == (before.ended, before.respawns)


def test_large_headers_reach_the_client(serving: Serving) -> None:
    answer, _ = serving.ask("/headers")
    assert (answer.status, len(answer.headers["X-Policy-2"])) == (200, 10_000)


def test_an_event_stream_reaches_the_client_at_once_and_may_last(serving: Serving) -> None:
    before, read = serving.counters(), serving.release / "src/read"
    read.unlink(missing_ok=True)
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
    connection.request("GET", "/events?n=12", headers={"Host": "localhost", "Accept-Encoding": "gzip"})
    began = time.monotonic()
    answer = connection.getresponse()
    assert answer.readline() == b"data: 0\n"
    read.touch()  # before that the app sends no more
    rest = answer.read()
    connection.close()
    assert rest.endswith(b"data: 11\n\n")
    assert answer.headers["X-Accel-Buffering"] is None
    assert time.monotonic() - began > REQUEST_S + 2
    assert serving.counters().ended == before.ended


def test_text_is_compressed_with_an_etag_that_says_so(serving: Serving) -> None:
    plain, whole = serving.ask("/json")
    packed, short = serving.ask("/json", Accept_Encoding="gzip")
    assert (plain.headers["Content-Encoding"], plain.headers["ETag"]) == (None, '"one"')
    assert (packed.headers["Content-Encoding"], packed.headers["ETag"]) == ("gzip", 'W/"one"')
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(short) == whole
    assert len(short) < len(whole) / 5
    assert serving.ask("/json", Accept_Encoding="gzip", If_None_Match='W/"one"')[0].status == 304


def test_what_another_site_fetches_with_cookies_is_not_compressed(serving: Serving) -> None:
    own, _ = serving.ask("/json", Accept_Encoding="gzip", Cookie="session=x", Sec_Fetch_Site="same-origin")
    assert own.headers["Content-Encoding"] == "gzip"
    answer, body = serving.ask("/json", Accept_Encoding="gzip", Cookie="session=x", Sec_Fetch_Site="cross-site")
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, None)
    assert body.startswith(b'{"text"')
    assert answer.headers["X-Added"] == 'say "hello"', "what the site adds is added here too"


def test_a_port_that_a_trusted_proxy_names_reaches_the_app(serving: Serving) -> None:
    asked = {"X_Forwarded_Proto": "https"}
    assert serving.ask("/host", None, None, **asked, X_Forwarded_Port="8443")[1] == b"https localhost:8443 8443 8443"
    assert serving.ask("/host", None, None, **asked, X_Forwarded_Port="443")[1] == b"https localhost 443 443"
    assert serving.ask("/host", None, None, **asked, X_Forwarded_Port="1;2")[1] == b"https localhost 443 443"
    assert serving.ask("/host", None, None, Host="localhost:8443", **asked)[1] == b"https localhost 443 443"


def test_a_program_that_the_app_starts_is_the_releases_python(serving: Serving) -> None:
    assert serving.ask("/child")[1].decode() == os.path.realpath(sys.prefix) or serving.ask("/child")[
        1
    ].decode().startswith(str(serving.release))


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 32_768, 65_535, 65_536, 1_000_000, 4 * 2**20])
def test_a_body_arrives_whole_and_need_not_be_read(serving: Serving, size: int) -> None:
    for _ in range(10):
        assert serving.ask("/", "POST", b"x" * size)[1] == str(size).encode()
        assert serving.ask("/unread", "POST", b"x" * size)[1] == b"unread"


def http2(port: int, headers: dict[str, str]) -> bytes:
    """What the server sends for a request whose body never comes: the content of its DATA frames."""

    def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
        return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content

    # HPACK: literal fields that are not indexed, with names written out.
    fields = b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in headers.items())  # fmt: skip
    found = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as received:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, fields))
        while len(head := received.read(9)) == 9:
            content = received.read(int.from_bytes(head[:3], "big"))
            if head[3] == 0:
                found += content
                if head[4] & 1:
                    break
    return found


def test_a_body_that_is_too_large_is_told_the_same_way_over_both_versions(serving: Serving) -> None:
    answer, body = serving.ask("/", "POST", b"x" * 5_000_000)
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    asked = {":method": "POST", ":scheme": "http", ":path": "/", ":authority": "localhost", "content-length": "5000000"}
    said = json.loads(http2(serving.port_http2, asked))
    assert said | {"request_id": ""} == json.loads(body) | {"request_id": ""}


def test_names_that_only_lead_to_the_site_do(serving: Serving) -> None:
    answer, _ = serving.ask("/a?b=c", Host="old.example.org")
    assert (answer.status, answer.headers["Location"]) == (308, "http://localhost/a?b=c")


def test_directives_of_the_site_have_effect(serving: Serving) -> None:
    assert serving.ask("/gone")[0].status == 410


def begin(serving: Serving, monkeypatch: pytest.MonkeyPatch, seconds: float, allow: list[str]) -> int:
    """Begin the maintenance of the app, as its playbook does; returns when it ends."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if command[0] == "systemctl":
            serving.nginx.send_signal(signal.SIGHUP)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("praetor.host.maintenance.subprocess.run", run)
    until = int(time.time() + seconds)
    window = maintenance.Window(name="localhost", until=until, allow=allow)
    assert maintenance.in_nginx("api", window, int(time.time()), serving.maintenance)
    return until


def closed(serving: Serving) -> bool:
    """Whether it answers 503, and not only now and then: while NGINX reloads, a worker of before may take a connection, too."""
    return all(serving.ask("/")[0].status == 503 for _ in range(5))


@pytest.fixture(scope="module")
def private() -> Iterator[Serving]:
    """Return a site that is not for the public."""
    with tempfile.TemporaryDirectory(prefix="s") as directory:
        Path(directory).chmod(0o755)
        lines = [f"anna:{hashed('-6')}", f"bert:{hashed('-5')}", f"carl:{hashed('-apr1')}", f"dora:{BCRYPT}"]
        running = Serving(Path(directory), preload=False, users="\n".join(lines) + "\n")
        try:
            yield running
        finally:
            running.close()


def key_pair(place: Path, name: str, issuer: str = "", days: int = 2) -> None:
    """Make NAME.key and NAME.pem: an authority, or what `issuer` issues."""
    command = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        f"/CN={name}",
    ]
    command += ["-keyout", f"{place}/{name}.key"]
    if not issuer:
        command += [
            "-x509",
            "-days",
            str(days),
            "-addext",
            "subjectAltName=DNS:localhost",
            "-out",
            f"{place}/{name}.pem",
        ]
        subprocess.run(command, capture_output=True, check=True)
        return
    subprocess.run([*command, "-out", f"{place}/{name}.csr"], capture_output=True, check=True)
    command = [
        "openssl",
        "x509",
        "-req",
        "-days",
        str(days),
        "-in",
        f"{place}/{name}.csr",
        "-out",
        f"{place}/{name}.pem",
    ]
    command += ["-CA", f"{place}/{issuer}.pem", "-CAkey", f"{place}/{issuer}.key", "-CAcreateserial"]
    subprocess.run(command, capture_output=True, check=True)


@pytest.fixture(scope="module")
def partners() -> Iterator[Serving]:
    """Return a site for those who have a certificate of one of two authorities, and a password."""
    with tempfile.TemporaryDirectory(prefix="s") as directory:
        place = Path(directory)
        place.chmod(0o755)
        for name in ("server", "one", "other", "foreign"):
            key_pair(place, name)
        for name, issuer, days in (
            ("carl", "one", 2),
            ("dora", "other", 2),
            ("eve", "foreign", 2),
            ("late", "one", -1),
        ):
            key_pair(place, name, issuer, days)
        let_in = "".join((place / f"{name}.pem").read_text(encoding="utf-8") for name in ("one", "other"))
        running = Serving(place, preload=True, users=f"anna:{hashed('-6')}\n", authority=let_in)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def mounted() -> Iterator[Serving]:
    """Return an app below /shop, with a site of another app that leads there."""
    with tempfile.TemporaryDirectory(prefix="s") as directory:
        Path(directory).chmod(0o755)
        running = Serving(Path(directory), preload=True, mount="/shop")
        try:
            yield running
        finally:
            running.close()


def test_an_app_that_has_all_paths_is_told_so(serving: Serving) -> None:
    assert serving.ask("/where")[1] == b" /where"


@pytest.mark.parametrize("host", ["localhost", "main.example"])
def test_an_app_below_a_path_knows_it_and_has_its_limits_and_static_files_there(mounted: Serving, host: str) -> None:
    assert mounted.ask("/shop/where", Host=host)[1] == b"/shop /where"
    answer, _ = mounted.ask("/shop?a=1", Host=host)
    assert (answer.status, answer.headers["Location"]) == (308, f"http://{host}/shop/?a=1")
    assert mounted.ask("/shop/static/app.js", Host=host)[1] == b"live"
    assert mounted.ask("/shop/static/missing.js", Host=host)[1] == b"ok"
    assert mounted.ask("/shop/slow", "POST", b"x" * 5_000_000, Host=host)[1] == b"5000000"
    assert mounted.ask("/shop/", "POST", b"x" * 5_000_000, Host=host)[0].status == 413


def test_what_is_not_below_the_path_of_an_app_is_not_the_apps(mounted: Serving) -> None:
    for path in ("/", "/shopping", "/where"):
        answer, body = mounted.ask(path)
        assert (answer.status, json.loads(body)["title"]) == (404, "Not Found")
        assert mounted.ask(path, Host="main.example")[0].status == 503, (
            "of the app whose name it is, which is not there"
        )


def test_an_app_logs_what_comes_to_it_by_another_name(mounted: Serving) -> None:
    def logged() -> str:
        return (mounted.place / "log/api.access.log").read_text(encoding="utf-8")

    assert mounted.ask("/shop/where?x=by-the-other-name", Host="main.example", X_Forwarded_For=CLIENT)[0].status == 200
    assert wait_until(lambda: "by-the-other-name" in logged(), 60)
    assert "by-the-other-name" not in (mounted.place / "log/main.access.log").read_text(encoding="utf-8")


def hashed(kind: str) -> str:
    """The hash of a password."""
    command = ["openssl", "passwd", kind, "open: sesame"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def authorization(user: str, password: str) -> str:
    """What a browser sends of a name and a password."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/missing.js", "/slow/x", "/favicon.ico"])
def test_an_app_that_is_not_for_the_public_answers_who_has_a_password_and_nobody_else(
    private: Serving, path: str
) -> None:
    for sent in ("", authorization("anna", "sesame"), authorization("eve", "")):
        answer, body = private.ask(path, X_Forwarded_For=CLIENT, Authorization=sent)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="not for the public"')
        assert json.loads(body)["title"] == "Unauthorized"
    for user in ("anna", "bert", "carl", "dora"):
        answer, _ = private.ask(path, X_Forwarded_For=CLIENT, Authorization=authorization(user, "open: sesame"))
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/missing.js", "/slow/x", "/favicon.ico", "/gone"])
def test_an_app_for_clients_with_certificates_answers_them_and_nobody_else(partners: Serving, path: str) -> None:
    password = authorization("anna", "open: sesame")
    for who in ("", "eve", "late"):
        status, body = partners.ask_over_tls(path, who, Authorization=password)
        assert (status, json.loads(body)["title"], json.loads(body)["status"]) == (403, "Forbidden", 403), (
            who or "nobody"
        )
    for who in ("carl", "dora"):
        assert partners.ask_over_tls(path, who)[0] == (410 if path == "/gone" else 401), "a certificate is no password"
        assert partners.ask_over_tls(path, who, Authorization=password)[0] == (410 if path == "/gone" else 200)


def test_an_app_is_told_whose_certificate_it_is_and_nobody_else_can_say_so(partners: Serving) -> None:
    password = authorization("anna", "open: sesame")
    lie = {"Ssl-Client-S-Dn": "CN=root", "SSL_CLIENT_S_DN": "CN=root"}
    assert partners.ask_over_tls("/client", "dora", Authorization=password, **lie) == (200, b"CN=dora")


def test_an_app_for_clients_with_certificates_says_nothing_without_tls(partners: Serving) -> None:
    answer, _ = partners.ask("/client", X_Forwarded_For=CLIENT)
    assert (answer.status, answer.headers["Location"]) == (308, "https://localhost/client")


def test_refusals_of_an_app_that_is_not_for_the_public_say_what_they_are(private: Serving) -> None:
    sent = authorization("anna", "open: sesame")
    assert private.ask("/", "POST", b"x" * 5_000_000, X_Forwarded_For=CLIENT, Authorization=sent)[0].status == 413
    assert private.ask("/%00", X_Forwarded_For=CLIENT, Authorization=sent)[0].status == 400
    logged = "".join(path.read_text(encoding="utf-8") for path in (private.place / "log").iterdir())
    assert "sesame" not in logged
    assert "$6$" not in logged
    assert sent not in logged


def test_a_balancer_asks_for_the_health_of_an_app_that_is_not_for_the_public_without_a_password(
    private: Serving,
) -> None:
    # It says of no client that it asks for him.
    assert private.ask("/")[0].status == 200


@pytest.mark.parametrize("told", ["/where?of=before", "/gone", "/static/missing.js"])
def test_a_balancer_that_was_told_of_another_release_is_answered_by_the_health_of_the_live_one(
    serving: Serving, told: str
) -> None:
    answer, body = serving.ask(told, X_Praetor_Check="1")
    assert (answer.status, body) == (200, b" /where")
    # A client that says the same gets what it asked for.
    assert serving.ask("/json", X_Praetor_Check="1", X_Forwarded_For="192.0.2.1")[1] != b" /where"


def test_an_app_in_maintenance_answers_with_a_page_until_it_ends_by_itself(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = begin(serving, monkeypatch, 600, ["192.0.2.0/24", "2001:db8::/32"])
    assert wait_until(lambda: closed(serving), 60)
    assert maintenance.closed(serving.maintenance) == {"api": ends}
    for method, body in (("GET", None), ("POST", b"x" * 5_000_000), ("PUT", b"")):
        answer, said = serving.ask("/any?where=1", method, body, Accept="application/json")
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json"), method
        assert json.loads(said)["status"] == 503
        again = parsedate_to_datetime(answer.headers["Retry-After"])
        assert (int(again.timestamp()), answer.headers["Cache-Control"]) == (ends, "no-store")
    for method in ("GET", "POST"):
        answer, said = serving.ask("/", method, b"a=b" if method == "POST" else None, Accept="text/html,*/*")
        assert (answer.status, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8"), method
        assert b"<h1>Back soon</h1>" in said
    for client in ("192.0.2.9", "2001:db8::1"):
        assert serving.ask("/", X_Forwarded_For=client)[0].status == 200, "who is let in"
    assert serving.ask("/", X_Forwarded_For="198.51.100.9")[0].status == 503
    assert serving.ask("/.nginx-maintenance.html", X_Forwarded_For="192.0.2.9")[0].status == 404, (
        "no address of the app"
    )
    ends = begin(serving, monkeypatch, 5, [])
    assert wait_until(lambda: serving.ask("/")[0].status == 200, 60), "nobody ended it"
    assert time.time() > ends - 0.2, "it ended too early"


def test_a_maintenance_is_ended_and_clears_away_those_that_are_over(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(serving, monkeypatch, 600, [])
    assert wait_until(lambda: closed(serving), 60)
    assert maintenance.in_nginx(
        "api", {"name": "localhost", "until": 0, "allow": []}, int(time.time()), serving.maintenance
    )
    assert wait_until(lambda: serving.ask("/")[0].status == 200, 60)
    assert (serving.maintenance / "until.map").read_text() == ""


@pytest.mark.parametrize(
    ("path", "status", "body", "kept"),
    [
        ("/static/app.js", 200, b"live", "no-cache"),
        ("/static/app.9f86d081884c.js", 200, b"hashed", "max-age=31536000, immutable"),
        ("/static/main-BX7d9k2a.css", 200, b"bundled", "max-age=31536000, immutable"),
        ("/static/report-20260101.txt", 200, b"dated", "no-cache"),
        ("/static/old.27fe1c2a9d00.js", 200, b"old", "max-age=31536000, immutable"),
        ("/favicon.ico", 200, b"icon", "no-cache"),
        # What is not there is the app's to answer.
        ("/static/uploads/one.txt", 200, b"ok", None),
        ("/static", 200, b"ok", None),
    ],
)
def test_nginx_serves_static_files_of_the_live_release_then_of_the_one_before(
    serving: Serving, path: str, status: int, body: bytes, kept: str | None
) -> None:
    before = serving.quiet().requests
    answer, got = serving.ask(path)
    assert (answer.status, got, answer.getheader("Cache-Control")) == (status, body, kept)
    assert answer.getheader("X-Added") == 'say "hello"'
    assert len(answer.headers.get_all("X-Request-ID", [])) == 1
    assert answer.getheader("Last-Modified") is None
    assert serving.quiet().requests - before == (kept is None)


def test_a_static_file_keeps_its_tag_and_a_client_that_has_it_gets_it_not_again(serving: Serving) -> None:
    answer, _ = serving.ask("/static/app.js")
    tag = answer.getheader("ETag") or ""
    again, got = serving.ask("/static/app.js", If_None_Match=tag)
    assert (again.status, got, again.getheader("ETag")) == (304, b"", tag)
    part, got = serving.ask("/static/app.js", Range="bytes=1-2")
    assert (part.status, got) == (206, b"iv")


def test_a_static_file_that_was_compressed_before_is_sent_as_it_is(serving: Serving) -> None:
    answer, got = serving.ask("/static/many.js", Accept_Encoding="gzip")
    assert got == gzip.compress(STATIC["live/static/many.js"], mtime=0)
    assert (answer.getheader("Content-Encoding"), answer.getheader("Vary")) == ("gzip", "Accept-Encoding")
    assert serving.ask("/static/many.js")[1] == STATIC["live/static/many.js"]


def test_a_module_has_a_type_that_browsers_run(serving: Serving) -> None:
    assert (serving.ask("/static/module.mjs")[0].getheader("Content-Type") or "").startswith("text/javascript")


def foreign_rows(serving: Serving) -> list[tuple[str, str]]:
    """What eight clients at once got that was the answer to another question."""

    def ask(client: int) -> list[tuple[str, str]]:
        asked = [f"{client}-{number}" for number in range(25)]
        return [(number, serving.ask(f"/row?n={number}")[1].decode()) for number in asked]

    with ThreadPoolExecutor(8) as clients:
        pairs = [pair for each in clients.map(ask, range(8)) for pair in each]
    assert len(pairs) == 200
    return [(asked, got) for asked, got in pairs if asked != got]


def test_a_connection_that_the_app_opens_while_it_is_imported_brings_no_row_of_another_request(
    serving: Serving,
) -> None:
    if serving.preload:
        pytest.skip("an app that opens something at import may not say that it can be loaded once")
    assert foreign_rows(serving) == []
