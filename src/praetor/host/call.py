"""Entry point on the host. Reads a request (JSON) from standard input, writes the answer (JSON) to standard output; expected errors become one sentence."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .full import FullError, is_full
from .journal import LockedError
from .layout import BakeError, ReleaseError

Work = Callable[..., Mapping[str, Any]]


def main() -> None:
    """Do `{"work": a module of this package, "params": {...}}`: call the module's `work` with the parameters."""
    # sudo or PAM may have another one; slots and NGINX must be able to read what is written here.
    os.umask(0o022)
    asked = json.load(sys.stdin.buffer)
    work: Work = importlib.import_module(f"{__package__}.{asked['work']}").work
    print(json.dumps(answer(work, **asked["params"])))  # noqa: T201  this is how it answers


def answer(work: Work, **params: object) -> dict[str, object]:
    """The answer to a request: what the work returns, next to `changed` and `reason`.

    An expected failure is reported as `reason` and not as a failed task: the whole fleet decides whether a run goes on, not one host.
    """
    try:
        return {"changed": False, "reason": None, **work(**params)}
    except LockedError as error:
        return {"changed": False, "reason": str(error), "holder": error.holder}
    except FullError as error:
        return {"changed": True, "reason": str(error), "full": error.place}
    except ReleaseError as error:
        return {"changed": True, "reason": str(error), "bad": isinstance(error, BakeError)}
    except OSError as error:
        reason = f"{type(error).__name__}: {error}. What is live goes on serving."
        full = {"full": str(error.filename or "the host")} if is_full(error) else {}
        return {"changed": True, "reason": reason, **full}
    except Exception:  # noqa: BLE001  the other hosts must hear of a mistake of ours as of any other failure
        import traceback  # noqa: PLC0415  every call pays for what is imported

        reason = f"unexpected, please report it:\n{traceback.format_exc()}What is live goes on serving."
        return {"changed": True, "reason": reason}
