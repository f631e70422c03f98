"""The frame of every release module: arguments in, one result out, each foreseen error as a sentence."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .host import DISK_FULL, BakeError, ReleaseError
from .journal import LockedError

# Of each module that changes an app: which run it belongs to.
RUN = {"type": "dict", "required": True}


def run(
    arguments: dict[str, Any], work: Callable[[dict[str, Any]], dict[str, Any]], one_of: list[str] | None = None
) -> None:
    """Run a module's work and report it; exactly one of the arguments `one_of` must be given.

    A foreseen failure is reported as `problem` and not as a failed task: whether a run goes on is for the whole fleet to decide, not for one host.
    """
    exactly = [one_of] if one_of else []
    module = AnsibleModule(
        argument_spec=arguments, supports_check_mode=False, mutually_exclusive=exactly, required_one_of=exactly
    )
    try:
        result = work(module.params)
    except LockedError as error:
        module.exit_json(changed=False, problem=str(error), holder=error.holder)
    except ReleaseError as error:
        module.exit_json(changed=True, problem=str(error), bad=isinstance(error, BakeError))
    except OSError as error:
        hint = "; make room on the file system and run again" if error.errno in DISK_FULL else ""
        module.exit_json(changed=True, problem=f"{type(error).__name__}: {error}{hint}. What is live goes on serving.")
    except Exception:  # noqa: BLE001  the other hosts must hear of a mistake of ours as of any other problem
        module.exit_json(
            changed=True,
            problem=f"unexpected, please report it:\n{traceback.format_exc()}What is live goes on serving.",
        )
    module.exit_json(**{"changed": False, "problem": None, **result})
