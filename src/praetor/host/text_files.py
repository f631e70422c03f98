"""Several text files in one call: only what differs is written, and files that belong together are checked together before the first is replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .layout import ReleaseError


def work(  # noqa: PLR0913  what a task says
    *,
    check: bool,
    files: dict[str, str] = {},  # noqa: B006  read only
    programs: dict[str, str] = {},  # noqa: B006
    initial: dict[str, str] = {},  # noqa: B006
    begin: dict[str, str] = {},  # noqa: B006
    alone_in: list[str] = [],  # noqa: B006
    validate: list[list[str]] = [],  # noqa: B006
    run: list[list[str]] = [],  # noqa: B006
    run_on_change: list[list[str]] = [],  # noqa: B006
    reread: list[str] = [],  # noqa: B006
) -> dict[str, Any]:
    """Write `files` (0644) and `programs` (0755), texts by their paths, where they differ, and `initial` ones where there is none.

    An initial text that is empty is not written: it says that somebody else may have put a file there. One of `begin` is, and is not shown to `validate`:
    what others have written there meanwhile is theirs.
    The directories of `alone_in` are made, and whatever else lies in them is removed. The commands of `validate` judge the files while they are in another directory,
    which `%s` stands for; in a dry run (`check`) one that is not installed yet judges nothing. Those of `run` follow each time but in a dry run, those of `run_on_change` before them
    if something was written or removed.

    Lines that begin with a text of `reread` need no restart of who reads the file: one that differs in nothing else keeps its time.

    Returns:
        `written`, `removed` and `diff`.

    Raises:
        ReleaseError: a path is not absolute, or a program says no; then nothing was written.
    """
    files = {**files, **kept(initial), **programs}
    begun = {path: _present(path, text) for path, text in begin.items()}
    nowhere = [path for path in [*files, *begun] if not Path(path).is_absolute()]
    if nowhere:
        # A key of a mapping in YAML is no template: such a name is taken as it is written.
        raise ReleaseError(f"files: found {nowhere[0]!r}, expected an absolute path; nothing was written")
    both = {**begun, **files}
    result = apply(both, alone_in, programs, dry=True)
    commands = validate
    if check:
        commands = [command for command in commands if shutil.which(command[0])]
    if result["written"] or result["removed"]:
        against = judge(files, commands)
        if against:
            raise ReleaseError(f"Nothing was written: {against}")
    if not check:
        result = apply(both, alone_in, programs, dry=False, reread=reread)
        changed = result["written"] or result["removed"]
        for command in [*(run_on_change if changed else []), *run]:
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return {"changed": bool(result["written"] or result["removed"]), **result}


def current(path: Path, mode: int = 0o644) -> str | None:
    """Return what is in a file that is as it should be but for its text; none if it must be written anyway."""
    try:
        status = path.lstat()
        if (status.st_mode, status.st_uid, status.st_gid) != (0o100000 | mode, os.geteuid(), os.getegid()):
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def kept(initial: dict[str, str]) -> dict[str, str]:
    """Return files with the text that they have, those that are missing with their initial one, if that is not empty."""
    return {path: _present(path, text) for path, text in initial.items() if text or Path(path).is_file()}


def _present(path: str, text: str) -> str:
    """What is in a file; a text where there is none."""
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else text


def strays(directory: Path, files: dict[str, str]) -> list[Path]:
    """Name what lies in a directory and is none of the files, directories after what is in them."""
    found = sorted(directory.rglob("*"), reverse=True)
    parents = {parent for path in files for parent in Path(path).parents}
    return [path for path in found if str(path) not in files and path not in parents]


def _but(text: str, beginnings: Collection[str]) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(tuple(beginnings))]


def write(path: Path, text: str, mode: int = 0o644, changed_ns: int | None = None) -> None:
    """Put a file in its place at once, with another time of its change if one is given; a run that dies leaves the old one."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fchmod(handle, mode)
        if changed_ns is not None:
            os.utime(handle, ns=(changed_ns, changed_ns))
        os.fsync(handle)
    Path(name).replace(path)


def judge(files: dict[str, str], commands: list[list[str]]) -> str:
    """Ask programs about the files while they are somewhere else.

    Returns:
        An empty string, or what one of them said against the files.

    """
    with tempfile.TemporaryDirectory() as staged:
        for path, text in files.items():
            write(Path(f"{staged}{path}"), text)
        for command in commands:
            argv = [argument.replace("%s", staged) for argument in command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                said = f"{done.stdout}{done.stderr}".replace(staged, "").strip()
                return f"{' '.join(command[:3])} ended with {done.returncode}:\n{said}"
    return ""


def apply(
    files: dict[str, str],
    alone_in: list[str],
    programs: Collection[str] = (),
    *,
    dry: bool,
    reread: Collection[str] = (),
) -> dict[str, Any]:
    """Write and remove what differs, or only say so.

    Returns:
        `written`, `removed` and `diff`, as `work` returns them.

    """
    modes = {path: 0o755 if path in programs else 0o644 for path in files}
    previous = {path: current(Path(path), modes[path]) for path in files}
    written = sorted(path for path, text in files.items() if previous[path] != text)
    removed = [stray for directory in alone_in for stray in strays(Path(directory), files)]
    diff = [
        {"before_header": path, "after_header": path, "before": previous[path] or "", "after": files[path]}
        for path in written
    ]
    if not dry:
        for directory in alone_in:
            Path(directory).mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in written:
            before = previous[path]
            same = before is not None and _but(before, reread) == _but(files[path], reread)
            write(Path(path), files[path], modes[path], Path(path).stat().st_mtime_ns if same else None)
        for stray in removed:
            if stray.is_dir() and not stray.is_symlink():
                stray.rmdir()
            else:
                stray.unlink()
    return {"written": written, "removed": [str(stray) for stray in removed], "diff": diff}
