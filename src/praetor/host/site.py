"""NGINX's half of a release: the site of an app, checked before the flip, in effect from the flip on, taken back with it."""

from __future__ import annotations

import pathlib
import re
import subprocess
import time
from typing import TYPE_CHECKING

from . import journal as journals
from . import static as statics
from .layout import AppHost, ReleaseError, read_text, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Journal

RELOAD_S = 15.0
OLD_WORKERS_S = 5.0
UNIT = "nginx.service"
_GUARD = re.compile(r"^ +(auth_basic_user_file|ssl_verify_client) ", re.MULTILINE)


def check(host: AppHost, release: str) -> None:
    """Let NGINX check the site of a release together with all its other files.

    Raises:
        ReleaseError: NGINX refuses it; with what it says.
    """
    if host.is_before_fastcgi(release):
        raise ReleaseError(
            f"{release} was made by an earlier version: its slots speak the uwsgi protocol, and NGINX no longer does. Nothing was started, "
            "and what is live goes on serving. Release its source again, as with source: {git: URL, ref: TAG}."
        )
    text = _of(host, release)
    if not text or text == read_text(_place(host)):
        return  # no site is nothing that NGINX could refuse
    manifest = host.manifest(release)
    names = manifest["settings"]["server_names"] if manifest else []
    bare = uncertified(host, names) if "ssl_certificate " in text else []
    if bare:
        raise ReleaseError(
            f"this host has no certificate for {', '.join(bare)}; nothing was started. "
            f"The inventory's entry of {host.app} must name them in server_names: then release.yml gets one."
        )
    nginx = host.layout.nginx
    import shutil  # noqa: PLC0415  every call would pay for it
    import tempfile  # noqa: PLC0415  every call would pay for it

    with tempfile.TemporaryDirectory(prefix="praetor-site-") as scratch:
        trial = pathlib.Path(scratch, "nginx")
        trial.mkdir()
        # Includes are relative to the file that is checked.
        shutil.copy(nginx / "nginx.conf", trial)
        for folder in ("praetor", "sites"):
            shutil.copytree(nginx / folder, trial / folder)
        (trial / "sites" / f"{host.app}.conf").write_text(text, encoding="utf-8")
        said = _judge(trial / "nginx.conf").replace(f"{trial}/", "")
    if said:
        # What all sites include comes with the host: a site may be newer than that.
        older = (
            "\nIf it misses a file of praetor/ or a variable, run playbooks/provision.yml first."
            if "praetor/" in said or 'unknown "site_' in said
            else ""
        )
        raise ReleaseError(f"NGINX refuses the site of {release}; nothing was started. It says:\n{said}{older}")


def uncertified(host: AppHost, names: list[str]) -> list[str]:
    """Names that the site's certificate on this host does not cover; all where there is none. RFC 6125: a `*` stands for one label."""
    covered = _certified(host.layout.tls / host.app / "fullchain.pem")
    return [name for name in names if not {name, f"*.{name.partition('.')[2]}"} & covered]


def switch(host: AppHost, release: str, journal: Journal) -> bool:
    """Make the site of a release the one that NGINX serves; whether anything had to be done.

    What was there is noted in the journal before, so that whoever finds this run dead knows that NGINX may not have read what the file says.

    Raises:
        ReleaseError: NGINX did not take it; what it served before it still serves.
    """
    text, place = _of(host, release), _place(host)
    if text is None or (text == (read_text(place) or "") and not journal.get("site")):
        return statics.switch(host, release)
    journal["site"] = release
    journals.save(host, journal)
    before = read_text(place)
    write_atomically(place, text, 0o644)
    problem = _reload()
    if problem:
        if before is not None:
            write_atomically(place, before, 0o644)
        raise ReleaseError(f"NGINX did not take the site of {release} and goes on with the one before:\n{problem}")
    statics.switch(host, release)
    del journal["site"]
    return True


def is_current(host: AppHost, release: str) -> bool:
    """Whether the site on this host is the one of a release; a release from before sites were part of releases has none."""
    text = _of(host, release)
    return statics.is_current(host, release) and (text is None or text == (read_text(_place(host)) or ""))


def follows_link(host: AppHost, release: str | None = None) -> bool:
    """Whether the site of a release, or the one that is in effect, sends requests where `live.sock` points; else to a slot's own socket."""
    text = _of(host, release) if release else read_text(_place(host))
    return f"unix:{host.run_dir}/" not in (text or "")


def is_stricter(host: AppHost, release: str) -> bool:
    """Whether the site of a release keeps people out whom the one that is in effect lets in."""
    wanted, now = (set(_GUARD.findall(text or "")) for text in (_of(host, release), read_text(_place(host))))
    return bool(wanted - now)


def await_old_workers(timeout_s: float = OLD_WORKERS_S) -> None:
    """Wait until NGINX's workers of earlier configurations have ended, or for so long: they take requests for a moment longer than the reload lasts."""
    time.sleep(0.3)  # so long at most the master lets them go on, next to the new ones
    master = _systemctl("show", "--property=MainPID", "--value", UNIT).stdout.strip()
    deadline = time.monotonic() + timeout_s
    while any(_is_ending(pid) for pid in _workers(master)) and time.monotonic() < deadline:
        time.sleep(0.05)


def work(*, check: bool, sites: dict[str, str]) -> dict[str, object]:
    """Keep what serves in reach of an NGINX that is about to speak FastCGI: live slots from before FastCGI speak the uwsgi protocol.

    Such an app's site (a text of `sites`, as its next release brings it) speaks uwsgi with the slot's own socket, so that neither protocol ever
    meets the other's slot. It is kept as the site of that release, which a failed release goes back to.

    Returns:
        `kept`: the apps whose site was written.
    """
    kept = [app for app, text in sites.items() if _keep(AppHost(app), text, check=check)]
    return {"changed": bool(kept), "kept": kept}


def _keep(host: AppHost, text: str, *, check: bool) -> bool:
    """Write the site if its slot speaks the other protocol; returns whether that was needed."""
    live = host.live()
    if live is None or host.manifest(live.release) is None or not host.is_before_fastcgi(live.release):
        return False
    # Each directive that a site has of the one protocol has a twin of the other.
    old = text.replace("fastcgi_", "uwsgi_").replace(str(host.live_link), str(host.socket(live)))
    wrong = [path for path in (host.release_dir(live.release) / "site.conf", _place(host)) if read_text(path) != old]
    for path in wrong if not check else []:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        write_atomically(path, old, 0o644)
    return bool(wrong)


def longest_s(host: AppHost) -> int | None:
    """Seconds that NGINX waits for requests when it is stopped, as it was provisioned; None where it was not."""
    return waits_s(read_text(host.layout.nginx / "nginx.conf") or "")


def waits_s(said: str) -> int | None:
    """The same, as a text of nginx.conf says it."""
    found = re.search(r"^# A stop waits for requests for (\d+) s|^worker_shutdown_timeout (\d+)s;", said, re.MULTILINE)
    return int(found[1] or found[2]) if found else None


def take_away(host: AppHost) -> None:
    """Stop serving the app's names."""
    if _place(host).exists():
        _place(host).unlink()
        _reload()


def _place(host: AppHost) -> pathlib.Path:
    return host.layout.nginx / "sites" / f"{host.app}.conf"


def _of(host: AppHost, release: str) -> str | None:
    return read_text(host.release_dir(release) / "site.conf")


def _certified(certificate: pathlib.Path) -> set[str]:
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(re.findall(r"DNS:([^,\s]+)", done.stdout))


def _judge(configuration: pathlib.Path) -> str:
    """What NGINX says against a configuration; empty if it accepts it."""
    # It opens the log files that it finds, and one that it makes is nobody else's to read.
    command = ["/usr/sbin/nginx", "-t", "-q", "-c", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o027)
    return (done.stderr.strip() or f"exit status {done.returncode}") if done.returncode else ""


def _reload() -> str:
    """Let NGINX read its configuration again; empty, or why it did not. One that does not run reads it when it starts.

    NGINX's word for it is its workers: those of the new configuration are other processes.
    """
    master = _systemctl("show", "--property=MainPID", "--value", UNIT).stdout.strip()
    if master in ("", "0"):
        return ""
    before = _workers(master)
    done = _systemctl("reload", UNIT)
    if done.returncode:
        return done.stderr.strip()
    deadline = time.monotonic() + RELOAD_S
    while not _workers(master) - before:
        if time.monotonic() > deadline:
            return f"no new worker within {RELOAD_S:.0f} s; journalctl -u nginx and /var/log/nginx/error.log say why"
        time.sleep(0.02)
    return ""


def _workers(master: str) -> set[str]:
    return set((read_text(pathlib.Path(f"/proc/{master}/task/{master}/children")) or "").split())


def _is_ending(pid: str) -> bool:
    return "shutting down" in (read_text(pathlib.Path(f"/proc/{pid}/cmdline")) or "")


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
