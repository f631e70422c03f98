"""Does work on a host by one SSH command. `praetor.host` runs there from a copy that is kept in memory.

As an ordinary Ansible module it would be packed, sent, unpacked and compiled again for every phase, which takes longer than most phases do.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from praetor.host import call, keep

KEPT = "/run/praetor"
_PACKAGE = pathlib.Path(call.__file__).parent
# The last line: or the interpreter looks for garbage before it ends.
_START = "import gc\n\nfrom praetor.host import call\n\ncall.main()\ngc.freeze()\n"
_ABSENT = 90  # exit status of a host that has no copy of this version; no shell and no Python uses it


class HostAction(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """An action that is done by a module of `praetor.host` on the host.

    A subclass gives `WORK`, the module, and `ARGUMENTS`, an Ansible argument spec, of which exactly one of `ONE_OF` must be given; the module's
    `work` gets the arguments, checked.
    """

    TRANSFERS_FILES = False
    WORK = ""
    ARGUMENTS: dict[str, Any] = {}  # noqa: RUF012  read only
    ONE_OF: tuple[str, ...] = ()
    host = ""  # its name in the inventory

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments and do what they say.

        Raises:
            AnsibleActionFail: an argument is missing, unknown or of another type.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.host = (task_vars or {}).get("inventory_hostname", "")
        exactly = [self.ONE_OF] if self.ONE_OF else []
        _, args = self.validate_argument_spec(self.ARGUMENTS, mutually_exclusive=exactly, required_one_of=exactly)
        return {**result, **self.do(args)}

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do the work; a `reason` in the answer is why it failed, and fails the task."""
        answer = self.on_host(args)
        return {**answer, "failed": True, "msg": answer["reason"]} if answer.get("reason") else answer

    def on_host(self, params: Mapping[str, Any], secret: Iterable[str] = (), work: str = "") -> dict[str, Any]:
        """What the module's work returned; `failed` and `msg` if the host gave no answer.

        Args:
            params: for the module's work.
            secret: values that must not come back in the answer.
            work: a module to use instead of `WORK`.

        Raises:
            AnsibleConnectionFailure: the host could not be reached.
        """
        asked = json.dumps({"work": work or self.WORK, "params": params}).encode()
        done = self._start(asked)
        if done["rc"] == _ABSENT:
            kept = self._low_level_execute_command("exec /usr/bin/python3 -I -S -", in_data=_keeping())
            if kept["rc"] != 0:
                said = kept["stderr"].strip().rpartition("\n")[2]
                msg = f"{KEPT} on the host cannot be written: {said}. What is live goes on serving."
                return _advised({"failed": True, "msg": msg, **({"full": KEPT} if kept["rc"] == keep.FULL else {})})
            done = self._start(asked)
        try:
            answer: dict[str, Any] = json.loads(done["stdout"].strip().rpartition("\n")[2])
        except ValueError:
            said = f"{done['stdout']}\n{done['stderr']}".strip()
            return {
                "failed": True,
                "msg": f"no answer from {work or self.WORK} on the host (exit status {done['rc']}): {said}",
            }
        return _advised(dict(remove_values(answer, list(secret))))

    def _start(self, asked: bytes) -> dict[str, Any]:
        start = f"test -d {_copy()} || exit {_ABSENT}; exec /usr/bin/python3 -I -S {_copy()}"
        return dict(self._low_level_execute_command(start, in_data=asked))


def read() -> None:
    """Read what is sent to hosts: processes that are forked later have it."""
    _copy()


@functools.cache
def _modules() -> dict[str, bytes]:
    files = {f"praetor/host/{path.name}": path.read_bytes() for path in sorted(_PACKAGE.glob("*.py"))}
    return {"__main__.py": _START.encode(), **files}


@functools.cache
def _copy() -> str:
    """Where this version is kept on a host."""
    digest = hashlib.sha256()
    for name, content in _modules().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"{KEPT}/{digest.hexdigest()[:16]}"


def _keeping() -> bytes:
    """The program that writes the copy, with all that is in it."""
    files = {name: content.decode() for name, content in _modules().items()}
    return _modules()["praetor/host/keep.py"] + f"\n\nkeep({files!r}, {KEPT!r}, {_copy()!r})\n".encode()


def _advised(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that says what to do about a file system without room, whichever work found it so."""
    if "full" not in answer:
        return answer
    name = "reason" if answer.get("reason") else "msg"
    return {**answer, name: f"{answer[name]} Make room there and run again."}
