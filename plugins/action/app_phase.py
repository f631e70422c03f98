"""Runs one phase of a run on a host; before the phases that begin a run it waits for the lock, and uploads what a release needs."""

from __future__ import annotations

import base64
import contextlib
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display

from praetor.host.phases import PHASES
from praetor.run.arguments import spec_of
from praetor.run.failures import failed
from praetor.run.on_host import HostAction
from praetor.run.owner import until_locked
from praetor.run.told import told

if TYPE_CHECKING:
    from praetor.documents import PhaseAnswer, Story

SMALL = 2**20  # bytes; held in memory once for each host
_WAITS = {"lock_wait": {"type": "float", "default": 0}}
_SENDS = {"files": {"type": "dict", "default": {}}, "missing": {"type": "list", "elements": "str", "default": []}}
# Options for the controller only; removed before the call to the host.
BEGINNING: dict[str, dict[str, Any]] = {"lock": _WAITS, "stage": {**_WAITS, **_SENDS}, "gate": _WAITS}


class NotBroughtError(Exception):
    """The files of a release could not be brought to the host; `answer` has the reason."""

    def __init__(self, answer: PhaseAnswer, said: str) -> None:
        """Take what the host says of its room, and what Ansible said."""
        super().__init__(said)
        given = f"the files of the release could not be brought ({said.strip()[:300]})"
        self.answer: PhaseAnswer = answer if answer.get("reason") else {"reason": given}


class ActionModule(HostAction):
    """Arguments: `app`, `run`, and one phase with what it is told, see `praetor.host.phases`.

    In place of `run`, `plan` names the variable with the plan of the run. It knows all that the phase is not given here: `praetor.run.told`.

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
            name: {"type": "dict", "options": {**spec_of(phase), **BEGINNING.get(name, {})}}
            for name, phase in PHASES.items()
        },
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the plan for what the task leaves to it."""
        given = self._task.args
        if "plan" in given:
            variables = task_vars or {}
            [phase] = [name for name in PHASES if name in given]
            run, known = told(phase, variables[given["plan"]], given["app"], variables["inventory_hostname"])
            self._task.args = {"app": given["app"], "run": run, phase: {**known, **(given[phase] or {})}}
        try:
            return super().run(tmp, task_vars)
        finally:
            self._task.args = given  # what goes back to Ansible's main process, for each host

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the phase. A failure fails the task, and app_report tells the operator; undoing a run reports its reason and goes on."""
        [phase] = [name for name in PHASES if args[name] is not None]
        try:
            answer = self._phase(phase, args)
        except AnsibleConnectionFailure as error:
            answer = {"reason": f"the host did not answer ({str(error).strip()[:300]})"}
        except FileNotFoundError as error:
            gone = f"{error.filename} is gone from the controller's cache; run again to fetch or build it again"
            answer = {"reason": gone}
        except NotBroughtError as error:
            answer = error.answer
        finally:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001  the documented way of action plugins
        reason = answer.get("reason") or (answer["msg"] if answer.get("failed") else None)
        undoes = phase == "settle" and args[phase]["reason"]
        if not reason or undoes:
            return {**answer, "failed": False, "reason": reason}
        story: Story = {"phase": phase, "reason": reason, "bad": answer.get("bad", False)}
        return {**failed(story, changed=answer.get("changed", False))}

    def _phase(self, phase: str, args: dict[str, Any]) -> PhaseAnswer:
        own, told = BEGINNING.get(phase, {}), args[phase]
        sent = {name: value for name, value in told.items() if name not in own}
        if told.get("missing"):
            sent |= self._bring({sha256: Path(told["files"][sha256]) for sha256 in told["missing"]})

        def ask(**more: str | None) -> PhaseAnswer:
            params = {"app": args["app"], "run": args["run"], "phase": phase, "told": {**sent, **more}}
            return cast("PhaseAnswer", self.on_host(params, sent.get("secrets", {}).values()))

        if phase not in BEGINNING:
            return ask()
        answer = until_locked(lambda break_run: ask(break_run=break_run), told["lock_wait"])
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
            try:
                remote = str(self._connection._shell.join_path(self._make_tmp_path(), "files.tar"))  # noqa: SLF001
                self._transfer_file(local.name, remote)
            except AnsibleError as error:
                # Ansible and sftp do not tell a full disk from any other failure: the host itself is asked.
                place = self._remote_expand_user(self.get_shell_option("remote_tmp"), sudoable=False)
                params = {"place": place, "size": Path(local.name).stat().st_size}
                answer = cast("PhaseAnswer", self.on_host(params, work="full"))
                raise NotBroughtError(answer, str(error)) from error
            return {"uploads": remote}
