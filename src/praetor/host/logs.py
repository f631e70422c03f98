"""An app's own log lines: those of its user in the host's journal."""

from __future__ import annotations

import re
import subprocess

from .layout import AppHost, user_of


def last_lines(host: AppHost, since: float, count: int = 40) -> str:
    """The last lines that the app's user wrote to the journal since a time; uWSGI's own chatter at start is left out."""
    uid = user_of(host.app).pw_uid
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"_UID={uid}",
        f"--since=@{since:.3f}",
        "--lines=400",
    ]
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    printed = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    kept = [line for line in printed if not _CHATTER.match(line)]
    # The Emperor starts a broken slot again and again: the lines of the first start are enough.
    ends = [number for number, line in enumerate(kept) if "GAME OVER" in line]
    kept = kept[: ends[0]] if ends else kept
    return (
        "\n".join(tracebacks_once(kept)[-count:]) or f"(nothing; look with: journalctl _UID={uid} --since=@{since:.0f})"
    )


def tracebacks_once(lines: list[str]) -> list[str]:
    """Leave out each traceback that stands above already: every worker has its own, and they are all alike."""
    kept: list[str] = []
    seen: set[tuple[str, ...]] = set()
    at, again = 0, False
    while at < len(lines):
        end = at + 1
        if lines[at].startswith(_FRAME):
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            end += 1  # what was raised
            block = tuple(lines[at:end])
            again = block in seen
            seen.add(block)
            if again and kept and kept[-1] == _HEAD:
                kept.pop()
        else:
            again = again and (not lines[at].strip() or lines[at] in _BETWEEN)
        # Workers write at the same time, so that two heads may stand above both.
        if not again and not (lines[at] == _HEAD and kept and kept[-1] == _HEAD):
            kept += lines[at:end]
        at = end
    return kept


_HEAD, _FRAME = "Traceback (most recent call last):", '  File "'
# What stands between the tracebacks of one failure, traceback in the standard library.
_BETWEEN = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_CHATTER = re.compile(
    r"^(\[emperor|\*\*\* (?!no app|WARNING: the app)|\[uWSGI\] getting|compiled with|os: |nodename|machine: |clock source|pcre jit|detected |current working|chdir\(\) to"
    r"|your (processes|memory|server|mercy|request)|lock engine|thunder lock|uwsgi socket|Python (version|main)|--- Python|python threads|mapped |spawned uWSGI"
    r"|announcing my loyalty|VACUUM: |unlink\(\): No such file|added /|set cores|setting |limiting |WSGI app 0 .*ready|- \*\*\*|running |request buffer)"
)

_REFUSED = re.compile(
    r"(?:Errno 13\] Permission denied|Errno 30\] Read-only file system|PermissionError|OSError)[^'\"\n]*: ['\"]([^'\"\n]+)['\"]"
)
# Packages of modules with another name; the first three were parts of Python, or came with it.
_PACKAGES = {
    "distutils": "setuptools",
    "pkg_resources": '"setuptools<81"',
    "cgi": "legacy-cgi",
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jwt": "PyJWT",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "psycopg2": "psycopg2-binary",
    "yaml": "PyYAML",
}
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)[.\w]*'")
_NO_DATABASE = re.compile(r"unable to open database file|attempt to write a readonly database")
_IN_RELEASE = re.compile(r"/srv/apps/[^/]+/releases/[^/]+/(?:src/)?(.+)")


def advice(lines: str) -> str:
    """Which key helps an app whose log says that it wanted to write to its own release, or found no module; nothing when it says neither."""
    for path in _REFUSED.findall(lines):
        found = _IN_RELEASE.fullmatch(path)
        place = found[1] if found else "" if path.startswith("/") else path.removeprefix("./")
        if place.startswith("venv/lib"):
            return (
                f"\nA release is read-only, and one of its packages wanted to write next to its code, to {place}. If it has a setting for that place, "
                "give it one in the app's data directory, in env or config: ${APP_DATA_DIR}."
            )
        if place:
            return (
                f"\nA release is read-only, and the app wanted to write to {place}. If it is data, name the place in the entry, and it will lie in the app's "
                f"data directory: data: [{_place_to_name(place)}]. Or let the app write below APP_DATA_DIR."
            )
    if _NO_DATABASE.search(lines):
        return (
            "\nAn SQLite file cannot be opened or written. A release is read-only: name the file in the entry, as in data: [app.db], or give the app a path "
            "in its data directory: ${APP_DATA_DIR}/app.db in env or config."
        )
    if missing := _MISSING.findall(lines):
        name = missing[-1]
        package = _PACKAGES.get(name, name)
        return (
            f"\nNothing in the release has a module {name}. If a package of the index does, name it in the project's requirements or in the entry: "
            f"source: {{extra_requirements: [{package}]}}. If it is the project's, and git ignores it: source: {{include: [{name}.py]}}."
        )
    return ""


def _place_to_name(place: str) -> str:
    """The folder that a file or folder of the project lies in: an app that writes one file there writes others."""
    parts = place.split("/")
    return "/".join(parts[:2]) if parts[0] == "venv" else parts[0]
