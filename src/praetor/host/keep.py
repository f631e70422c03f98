"""Writes the copy of this package that a host works with. Sent as a program, while nothing of the package is there: `praetor.run.on_host`."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import sys
import time

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
FULL = 91  # exit status: there is no room for the copy; Python uses 1 and 2
_OLD_S = 3600  # another version's copy is removed when it is so old; by then nobody uses it any more


def keep(files: dict[str, str], kept: str, copy: str) -> None:
    """Write files below `copy`, all or nothing, and end with a status of 0, `FULL`, or 1 with the reason on standard error.

    Args:
        files: texts by their path in the copy.
        kept: the directory of all copies.
        copy: the directory of this one; if somebody else has written it meanwhile, it stays.
    """
    import shutil  # noqa: PLC0415  every call would pay for it

    os.umask(0o077)
    new = pathlib.Path(kept) / f".new.{os.getpid()}"
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        for name, text in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text, encoding="utf-8")
        _remove_old(new.parent)
        if not pathlib.Path(copy).exists():
            new.rename(copy)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and pathlib.Path(copy).is_dir():
            return  # somebody else was quicker
        print(error, file=sys.stderr)  # noqa: T201  this is how it answers
        sys.exit(FULL if error.errno in FULL_ERRORS else 1)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_old(kept: pathlib.Path) -> None:
    import shutil  # noqa: PLC0415  every call would pay for it

    for copy in kept.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if copy.stat().st_mtime < time.time() - _OLD_S:
                shutil.rmtree(copy, ignore_errors=True)
