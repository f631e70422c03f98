"""What an artifact consists of, how a release of it is called, and its bill of materials."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

from praetor.documents import Artifact, Entry, Settings, WheelEntry
from praetor.entry import SETTINGS
from praetor.host.layout import SUN_PATH_MAX, ReleaseError

from . import cache as caches
from .cache import Wheel

DATA_DIR = "${APP_DATA_DIR}"
_BILLS = uuid.UUID("5c3bd4a9-6a1c-4d0b-9d5e-0a6b0d7f1e52")  # the name space of their serial numbers


def entry_of(wheel: Wheel) -> WheelEntry:
    """A wheel's entry in a manifest."""
    return {
        "name": wheel.name,
        "version": wheel.version,
        "file": wheel.file,
        "sha256": wheel.sha256,
        "origin": wheel.origin,
    }


def files_of(manifest: Artifact, cache: pathlib.Path) -> dict[str, pathlib.Path]:
    """Where the files of an artifact are on this controller, by SHA-256."""
    entries = [entry for found in manifest["wheels"].values() for entry in found]
    files = {each["sha256"]: cache / "wheels" / each["sha256"] / each["file"] for each in entries}
    tree = manifest["tree"]
    return {**files, tree["sha256"]: cache / "trees" / tree["file"]} if tree else files


def sbom_of(manifest: Artifact, cache: pathlib.Path) -> pathlib.Path:
    """Where the bill of materials of an artifact is on this controller."""
    return cache / "artifacts" / manifest["artifact"] / "sbom.json"


def settings_of(app: Entry) -> Settings:
    """The keys of an entry that are part of a release."""
    given: Mapping[str, object] = app
    return cast("Settings", {name: given[name] for name in SETTINGS})


def identify(app: Entry, manifest: Artifact, rendered: list[str], secrets: dict[str, str], cache: pathlib.Path) -> str:
    """The release's id, `<version>-<8 hex>`: equal for equal artifact, settings, rendered files and secrets, whenever and wherever it is computed.

    It is noted in the cache, so that another inventory can release the same artifact without building it again.
    """
    everything = [
        manifest["artifact"],
        manifest["commit"],
        settings_of(app),
        rendered,
        fingerprint(app["name"], secrets),
    ]
    digest = hashlib.sha256(canonical(everything).encode()).hexdigest()
    longest = SUN_PATH_MAX - len(f"/run/uwsgi/{app['name']}/{app['name']}.-{digest[:8]}.99999.stats")
    version = re.sub(r"[^A-Za-z0-9.+_]", "_", manifest["version"])[: min(longest, 32)].rstrip("._+")
    release = f"{version}-{digest[:8]}"
    caches.write(cache / "releases" / app["name"] / f"{release}.json", json.dumps(manifest))
    return release


def recorded(cache: pathlib.Path, app: str, release: str) -> Artifact:
    """The artifact of a release that this controller identified before.

    Raises:
        ReleaseError: it never did, or the artifact is gone.
    """
    notes = cache / "releases" / app
    note = notes / f"{release}.json"
    if not note.is_file():
        newest = (
            sorted(notes.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:5]
            if notes.is_dir()
            else []
        )
        known = ", ".join(path.stem for path in newest) or "none"
        raise ReleaseError(
            f"release={release}: this controller has no such release of {app}; the newest that it has: {known}"
        )
    found: Artifact = json.loads(note.read_text(encoding="utf-8"))
    return found


def fingerprint(app: str, secrets: dict[str, str]) -> str:
    """A digest of secrets from which they cannot be guessed at any useful speed: it leaves the controller as a part of the release's id."""
    if not secrets:
        return ""
    return hashlib.scrypt(
        canonical(secrets).encode(), salt=f"release of {app}".encode(), n=2**14, r=8, p=1, dklen=16
    ).hex()


def with_data_dir(value: Any, app: str) -> Any:
    """A value of the inventory with the app's data directory in it."""
    if isinstance(value, str):
        return value.replace(DATA_DIR, f"/srv/apps/{app}/data")
    if isinstance(value, dict):
        return {key: with_data_dir(inner, app) for key, inner in value.items()}
    return [with_data_dir(inner, app) for inner in value] if isinstance(value, list) else value


def sbom(manifest: Artifact) -> str:
    """The CycloneDX 1.6 bill of materials of an artifact, as JSON: the same text for the same artifact, whenever it is made."""
    from cyclonedx.model import HashAlgorithm, HashType  # noqa: PLC0415  0.3 s that only a new artifact pays
    from cyclonedx.model.bom import Bom  # noqa: PLC0415
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415
    from packageurl import PackageURL  # noqa: PLC0415

    unique = {entry["sha256"]: entry for entries in manifest["wheels"].values() for entry in entries}
    bom = Bom()
    bom.metadata.component = Component(
        name=manifest["app"], version=manifest["version"], type=ComponentType.APPLICATION, bom_ref=manifest["app"]
    )
    for entry in sorted(unique.values(), key=lambda entry: (entry["file"], entry["sha256"])):
        bom.components.add(
            Component(
                name=entry["name"],
                version=entry["version"],
                type=ComponentType.LIBRARY,
                bom_ref=f"{entry['file']}#{entry['sha256'][:8]}",
                purl=PackageURL("pypi", None, entry["name"], entry["version"], {"file_name": entry["file"]}),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"])],
            )
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_BILLS, manifest['artifact'])}"
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True)


def canonical(value: object) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
