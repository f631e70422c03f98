"""Stage: put a release on the host. Nothing serves it yet; a failure leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import pathlib
import pwd
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

from . import access as accesses
from . import static as statics
from .full import FullError, is_full, says_full
from .layout import AppHost, ReleaseError, remove, sync_directory, user_of, write_atomically
from .logs import advice
from .output import run, tail

if TYPE_CHECKING:
    import tarfile

    from praetor.documents import Content, Manifest, TreeEntry, WheelEntry


def system_tag(major: int, minor: int, machine: str) -> str:
    """What an artifact calls a system: the wheel tag of its Python, as cp311, and the processor if it is not x86-64, as cp313-aarch64."""
    return f"cp{major}{minor}" + ("" if machine == "x86_64" else f"-{machine}")


def python_tag() -> str:
    """The tag of this host's system."""
    return system_tag(sys.version_info.major, sys.version_info.minor, os.uname().machine)


def files_of(manifest: Manifest, tag: str) -> list[WheelEntry | TreeEntry]:
    """The files of an artifact that a host with this Python needs: wheels, and the tree of a project that is no package.

    Raises:
        ReleaseError: the artifact was not built for this Python.
    """
    if tag not in manifest["wheels"]:
        built = ", ".join(sorted(manifest["wheels"]))
        raise ReleaseError(
            f"{manifest['app']} {manifest['version']} was built for {built}; this host has {tag}. Does requires-python in its pyproject.toml exclude it?"
        )
    return [*manifest["wheels"][tag], *([manifest["tree"]] if manifest["tree"] else [])]


def missing(host: AppHost, manifest: Manifest) -> list[str]:
    """SHA-256 of the artifact's files that this host does not have yet."""
    return sorted(
        {
            entry["sha256"]
            for entry in files_of(manifest, python_tag())
            if not (host.wheels / entry["sha256"] / entry["file"]).is_file()
        }
    )


def stage(
    host: AppHost,
    manifest: Manifest,
    parts: Content,
    uploads: IO[bytes] | None,
    checks: list[list[str]],
) -> bool:
    """Put a release on the host: files, virtualenv, configuration, and the app's own check commands.

    Args:
        host: the app.
        manifest: what becomes `release.json`; it is written last and makes the release complete.
        parts: `vassal` and `site` (texts of the vassal file and of NGINX's site), `slot` (the files of praetor_slot, by name), `units` (those of systemd), `config` (text of config.yml), `env` and `secrets` (names and values), `sbom` (text).
        uploads: a tar with the files that `missing` named; its files are checked against the manifest's hashes.
        checks: commands that must succeed, run from the release as the app's user.

    Returns:
        Whether anything was done; a complete release is left alone.

    Raises:
        ReleaseError: why the release cannot be staged. Nothing of it is left.
    """
    user = user_of(host.app)
    if uploads is not None:
        _store(host, manifest, uploads)
    release = manifest["id"]
    if host.manifest(release) is not None:
        return False
    place = host.release_dir(release)
    try:
        remove(place)
        place.mkdir(mode=0o750)
        os.chown(place, 0, user.pw_gid)
        _virtualenv(host, manifest, place)
        _tree(host, manifest, place)
        _data_places(host, manifest, place, user)
        statics.lay_out(host, manifest, place)
        _settings(place, {**parts, "secrets": accesses.lay_out(host, manifest, parts["secrets"])}, user)
        for command in checks:
            run_command(host, release, command, timeout_s=120)
        # The manifest says that the release is complete, so everything it names must first be safe from a power cut.
        subprocess.run(["sync", "--file-system", str(place)], check=True)
        write_atomically(
            place / "release.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n", 0o640, 0, user.pw_gid
        )
        sync_directory(host.releases_dir)
    except OSError as error:
        full = FullError(host.releases_dir, f"staging {release}")  # before there is room again
        _remove(host, release)
        if is_full(error):
            raise full from error
        raise
    except BaseException:
        _remove(host, release)
        raise
    return True


def _remove(host: AppHost, release: str) -> None:
    for place in (host.release_dir(release), host.static / release, host.access / release):
        remove(place)


def run_command(host: AppHost, release: str, command: list[str], timeout_s: float) -> str:
    """Run one of the app's commands from its staged release, as the app's user, and return what it printed.

    The command finds the virtualenv's programs first in PATH and the environment that the app itself will have. No shell is involved.

    Raises:
        ReleaseError: it failed or took too long; with the last lines that it printed.
    """
    place, user = host.release_dir(release), user_of(host.app)
    try:
        ended = run(command, cwd=place / "src", env=environment(place, user), user=user, timeout_s=timeout_s)
    except (FileNotFoundError, PermissionError):
        raise ReleaseError(
            f"command '{' '.join(command)}': no program '{command[0]}' in the release's virtualenv or on the host"
        ) from None
    if not ended.ok:
        late = ended.late is not None
        hint = "" if late else advice(ended.printed)
        raise ReleaseError(f"command {ended.failure}{'; it had printed' if late else ''}:\n{tail(ended.printed)}{hint}")
    return ended.said


def environment(place: pathlib.Path, user: pwd.struct_passwd) -> dict[str, str]:
    """The environment of everything that runs from a release; the vassal wrapper makes the same for slots."""
    found = {
        "PATH": f"{place}/venv/bin:/usr/bin:/bin",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    for directory in (place / "env", place / "secrets"):
        found |= {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.iterdir())}
    if (place / "src").is_dir():
        found.setdefault("PYTHONPATH", str(place / "src"))
    return found


def _store(host: AppHost, manifest: Manifest, uploads: IO[bytes]) -> None:
    """Store uploaded files under their hashes; a file whose content is not what the manifest says is refused."""
    import tarfile  # noqa: PLC0415  every call would pay for it

    wanted = {entry["sha256"]: entry["file"] for entry in files_of(manifest, python_tag())}
    host.wheels.mkdir(mode=0o700, exist_ok=True)
    try:
        with tarfile.open(fileobj=uploads) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None or member.name not in wanted:
                    continue
                data = content.read()
                found = hashlib.sha256(data).hexdigest()
                if found != member.name:
                    raise ReleaseError(
                        f"{wanted[member.name]} arrived damaged: SHA-256 is {found}, the manifest says {member.name}. Nothing was changed. "
                        "If running again does not help, remove the file from the controller's cache and build again."
                    )
                place = host.wheels / member.name
                place.mkdir(mode=0o700, exist_ok=True)
                write_atomically(place / wanted[member.name], data, 0o600)
    except tarfile.TarError as error:
        raise ReleaseError(f"the uploaded files arrived damaged ({error}); nothing was changed, run again") from None
    except OSError as error:
        if is_full(error):
            raise FullError(host.wheels, "storing wheels") from error
        raise


def _virtualenv(host: AppHost, manifest: Manifest, place: pathlib.Path) -> None:
    uv = host.layout.emperor / "venv/bin/uv"
    if not uv.is_file():
        raise ReleaseError(
            f"this host has no {uv}: it was not provisioned. Run playbooks/deploy.yml (or provision.yml) first."
        )
    found = [host.wheels / entry["sha256"] / entry["file"] for entry in manifest["wheels"][python_tag()]]
    for path in found:
        if not path.is_file():
            raise ReleaseError(f"{path.name} is gone from this host's cache; nothing was changed, run again")
        # Marked as used now, so that another app's run that prunes meanwhile keeps it.
        os.utime(path.parent)
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.parent.name:
            remove(path.parent)
            raise ReleaseError(
                f"{path.name} in this host's cache is damaged and was removed; run again to send it again. Nothing else was changed."
            )
    base = [str(uv), "--quiet", "--no-config", "--offline", "--no-cache"]
    _uv([*base, "venv", "--python", "/usr/bin/python3", "--no-python-downloads", str(place / "venv")], host)
    shared = _shared_packages(host, manifest)
    new = [str(path) for path in found if path.parent.name not in shared]
    if new:
        install = ["pip", "install", "--no-deps", "--no-index", "--python", str(place / "venv/bin/python")]
        _uv([*base, *install, *new], host)
        _compile(place / "venv/lib")
    # After uv, which starts the virtualenv's Python as root: there must be no .pth file of another package yet.
    for record in shared.values():
        _link_package(record, place / "venv")
    # uv leaves it writable by everybody, in a release that nobody may change.
    (place / "venv" / ".lock").unlink(missing_ok=True)


def _shared_packages(host: AppHost, manifest: Manifest) -> dict[str, pathlib.Path]:
    """The wheels that the newest release has too, by SHA-256, with the RECORD of what each installed there, PEP 376."""
    newest = next(iter(host.releases()), None)
    earlier = host.manifest(newest) if newest else None
    if newest is None or earlier is None:
        return {}
    [packages] = host.release_dir(newest).glob("venv/lib/python3*/site-packages")
    wanted = {entry["sha256"] for entry in manifest["wheels"][python_tag()]}
    records = {
        entry["sha256"]: packages / f"{'-'.join(entry['file'].split('-')[:2])}.dist-info" / "RECORD"
        for entry in earlier["wheels"].get(python_tag(), [])
        if entry["sha256"] in wanted
    }
    return {sha256: record for sha256, record in records.items() if record.is_file()}


def _link_package(record: pathlib.Path, venv: pathlib.Path) -> None:
    """Link a package's files and bytecode: quicker than to unpack and compile them again. Releases are never written to, so they can share files."""
    import csv  # noqa: PLC0415  every call would pay for it

    [packages] = venv.glob("lib/python3*/site-packages")
    for name, *_ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
        source, target = (os.path.normpath(f"{place}/{name}") for place in (record.parents[1], packages))
        _link(source, target, venv)
        if name.endswith(".py"):
            _link(importlib.util.cache_from_source(source), importlib.util.cache_from_source(target), venv)


def _link(source: str, target: str, venv: pathlib.Path) -> None:
    """One file of a package. A script names its virtualenv in its first line, so it is written and not linked."""
    if not target.startswith(f"{venv}/") or os.path.exists(target) or not os.path.isfile(source):  # noqa: PTH110, PTH113  thousands of files
        return  # the wheel's author wrote the list
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120
    place = pathlib.Path(source).parent
    program = place.name == "bin" and (place.parent / "pyvenv.cfg").is_file()
    content = pathlib.Path(source).read_bytes() if program else b""
    if content.startswith(b"#!"):
        pathlib.Path(target).write_bytes(content.replace(bytes(place.parent), bytes(venv)))
        pathlib.Path(target).chmod(0o755)
    else:
        os.link(source, target)


def _compile(place: pathlib.Path) -> None:
    """Write bytecode, with the host's own Python: the virtualenv's would run its .pth files, as root. A file that does not compile does no harm."""
    # Starting helpers takes longer than compiling an app without its packages.
    workers = "0" if len(list(place.rglob("*.py"))) > 200 else "1"
    command = ["/usr/bin/python3", "-I", "-S", "-m", "compileall", "-q", "-j", workers, str(place)]
    subprocess.run(command, capture_output=True, check=False, umask=0o022)


def _uv(command: list[str], host: AppHost) -> None:
    # Where each wheel lay and when it was made is written into no release: the same one is the same everywhere, byte for byte.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "UV_NO_INSTALLER_METADATA": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, umask=0o022)
    if done.returncode != 0:
        if says_full(done.stderr):
            raise OSError(errno.ENOSPC, "no space left", str(host.root))
        raise ReleaseError(f"the virtualenv cannot be made:\n{tail(done.stderr or done.stdout)}")


def _tree(host: AppHost, manifest: Manifest, place: pathlib.Path) -> None:
    """`src/`, the slot's working directory: the project's files where it is no package, else empty."""
    (place / "src").mkdir(mode=0o755)
    if not manifest["tree"]:
        return
    import tarfile  # noqa: PLC0415  every call would pay for it

    entry = manifest["tree"]
    with tarfile.open(host.wheels / entry["sha256"] / entry["file"]) as archive:
        for member in archive:
            unpack(archive, member, place / "src")
    _compile(place / "src")


def _data_places(host: AppHost, manifest: Manifest, place: pathlib.Path, user: pwd.struct_passwd) -> None:
    """Links from where the app writes to its data directory. What the project ships there is the beginning of what lies there, once."""
    for named in manifest["settings"].get("data", []):
        name = named.removesuffix("/")
        shipped = place / name if name.startswith("venv/") else place / "src" / name
        kept = host.data / name
        is_file = shipped.is_file() if shipped.exists() else bool(kept.suffix) and not named.endswith("/")
        _as_the_app(["mkdir", "-p", "--", str(kept.parent if is_file else kept)], user)
        if shipped.exists() or shipped.is_symlink():
            if shipped.is_dir():
                _as_the_app(["cp", "-rn", "--", f"{shipped}/.", str(kept)], user)
            elif not os.path.lexists(kept):
                _as_the_app(["cp", "--", str(shipped), str(kept)], user)
            remove(shipped)
        shipped.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        shipped.symlink_to(kept)


def _as_the_app(command: list[str], user: pwd.struct_passwd) -> None:
    """Change something in an app's data as the app: what is there belongs to it, and may be a link to anywhere."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        umask=0o027,
    )
    if done.returncode != 0:
        raise ReleaseError(f"a place of `data` cannot be made: {tail(done.stderr, 3)}")


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, place: pathlib.Path) -> None:
    """One member of a project's tree. Debian 12's tarfile has no extraction filters: nothing leaves the tree, owners and special files do not count.

    Raises:
        ReleaseError: it leads out of the tree.
    """
    target = place / member.name
    # Through the links that are there already: what a name says is not where it leads.
    leads_to = (target.parent / member.linkname).resolve() if member.issym() else target.resolve()
    if not leads_to.is_relative_to(place.resolve()) or ".." in target.parts:
        raise ReleaseError(f"{member.name} leads out of the project's tree; nothing was staged")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.isreg() and (content := archive.extractfile(member)):
        target.write_bytes(content.read())
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _settings(place: pathlib.Path, parts: Content, user: pwd.struct_passwd) -> None:
    for name, values in (("env", parts["env"]), ("secrets", parts["secrets"])):
        (place / name).mkdir(mode=0o750)
        os.chown(place / name, 0, user.pw_gid)
        for key, value in values.items():
            write_atomically(place / name / key, value, 0o440, 0, user.pw_gid)
    programs, units = place / "slot/praetor_slot", place / "units"
    for directory in (programs.parent, programs, units):
        directory.mkdir(mode=0o750)
        os.chown(directory, 0, user.pw_gid)
    for name, text in parts["slot"].items():
        write_atomically(programs / name, text, 0o640, 0, user.pw_gid)
    for name, text in parts["units"].items():
        write_atomically(units / name, text, 0o640, 0, user.pw_gid)
    write_atomically(place / "config.yml", parts["config"], 0o640, 0, user.pw_gid)
    write_atomically(place / "sbom.json", parts["sbom"], 0o640, 0, user.pw_gid)
    write_atomically(place / "site.conf", parts["site"], 0o640, 0, user.pw_gid)
    write_atomically(place / "vassal.ini", parts["vassal"], 0o640, 0, user.pw_gid)
    # The Emperor compares whole seconds; a vassal file that is older than its link never looks changed.
    os.utime(place / "vassal.ini", (time.time() - 10, time.time() - 10))
