"""Runs one phase of a run on a host; before the phases that begin a run it waits for the lock, and uploads what a release needs."""

from __future__ import annotations

import base64
import contextlib
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from praetor.host.phases import PHASES
from praetor.run.on_host import HostAction
from praetor.run.owner import until_locked

SMALL = 2**20  # bytes; held in memory once for each host
_WAITS = {"lock_wait": {"type": "float", "default": 0}}
_SENDS = {"files": {"type": "dict", "default": {}}, "missing": {"type": "list", "elements": "str", "default": []}}
# Options for the controller only; removed before the call to the host.
BEGINNING: dict[str, dict[str, Any]] = {"lock": _WAITS, "stage": {**_WAITS, **_SENDS}, "gate": _WAITS}


class ActionModule(HostAction):
    """Arguments: `app`, `run`, and one phase with what it is told, see `praetor.phases`.

    `lock`, `stage` and `gate` take `lock_wait`, how many seconds to wait for another run; the lock of a dead owner is taken over.
    `stage` takes `files`, places on the controller by SHA-256, and `missing`, those that the survey did not find on the host.
    """

    _supports_check_mode = False
    WORK = "phases"
    ONE_OF = tuple(PHASES)
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "run": {"type": "dict", "required": True},
        **{
            name: {"type": "dict", "options": {**options, **BEGINNING.get(name, {})}}
            for name, (_, options) in PHASES.items()
        },
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the phase. A problem fails the task, and app_report tells the operator; undoing a run reports its problem and goes on."""
        [phase] = [name for name in PHASES if args[name] is not None]
        try:
            answer = self._phase(phase, args)
        except AnsibleConnectionFailure as error:
            said = str(error).strip()[:300]
            full = f"no room for the upload: {said}; make room and run again. What is live goes on serving."
            answer = {"problem": full if "No space left" in said else f"the host did not answer ({said})"}
        except FileNotFoundError as error:
            gone = f"{error.filename} is gone from the controller's cache; run again to fetch or build it again"
            answer = {"problem": gone}
        finally:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001  the documented way of action plugins
        problem = answer.get("problem") or (answer.get("failed") and answer["msg"])
        undoes = phase == "settle" and args[phase]["failed_because"]
        if not problem or undoes:
            return {**answer, "failed": False, "problem": problem or None}
        # Ansible shows a message twice and on each host; keys with this prefix are not shown, and app_report reads them.
        msg = problem if phase == "settle" else f"{phase} failed"
        story = {"phase": phase, "problem": problem, "bad": bool(answer.get("bad"))}
        return {"changed": answer.get("changed", False), "failed": True, "msg": msg, "_ansible_story": story}

    def _phase(self, phase: str, args: dict[str, Any]) -> dict[str, Any]:
        told = args[phase]
        wait = told.pop("lock_wait", 0)
        files, missing = told.pop("files", {}), told.pop("missing", [])
        if missing:
            told |= self._bring({sha256: Path(files[sha256]) for sha256 in missing})
        if phase not in BEGINNING:
            return self.on_host(args)
        secret = told.get("secrets", {}).values()
        answer = until_locked(lambda now: self.on_host({**args, phase: now}, secret), told, wait)
        for sentence in answer.get("repaired") or []:
            Display().display(f"{self.host}: {sentence}", color="yellow")
        return answer

    def _bring(self, files: dict[str, Path]) -> dict[str, str]:
        """Bring a tar of files to the host: a small one is sent with the phase, which saves three commands over SSH."""
        with tempfile.NamedTemporaryFile(prefix="upload-", suffix=".tar") as local:
            # Wheels are compressed already; the names are what the host checks the contents against.
            with tarfile.open(local.name, "w") as archive:
                for sha256, path in files.items():
                    archive.add(path, arcname=sha256)
            if Path(local.name).stat().st_size <= SMALL:
                return {"sent": base64.b64encode(Path(local.name).read_bytes()).decode()}
            remote = str(self._connection._shell.join_path(self._make_tmp_path(), "files.tar"))  # noqa: SLF001
            self._transfer_file(local.name, remote)
            return {"uploads": remote}
