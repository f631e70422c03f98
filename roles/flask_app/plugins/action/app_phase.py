"""Runs one phase of a run on a host; before the phases that begin a run it waits for the lock, and uploads what a release needs."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.owner import until_locked  # noqa: E402

BEGINNING = ("lock", "stage")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module of the same name.

    `lock` and `stage` take `lock_wait`, how many seconds to wait for another run; the lock of a dead owner is taken over.
    `stage` takes `files`, places on the controller by SHA-256, and `missing`, those that the survey did not find on the host.
    """

    TRANSFERS_FILES = True
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the phase."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        phase = next((name for name in BEGINNING if name in args), None)
        try:
            if phase is None:
                answer = self._module(args, task_vars)
            else:
                wanted = dict(args[phase])
                wait = float(wanted.pop("lock_wait", 0) or 0)
                files, missing = wanted.pop("files", {}), wanted.pop("missing", [])
                if missing:
                    wanted["uploads"] = self._upload({sha256: Path(files[sha256]) for sha256 in missing})
                answer = until_locked(lambda told: self._module({**args, phase: told}, task_vars), wanted, wait)
        except FileNotFoundError as error:
            answer = {
                "problem": f"{error.filename} is gone from the controller's cache; run again, and it is fetched or built anew"
            }
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001  the documented way of action plugins
        return {**result, **answer}

    def _module(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_args=args, task_vars=task_vars))

    def _upload(self, files: dict[str, Path]) -> str:
        remote = self._connection._shell.join_path(self._make_tmp_path(), "files.tar")  # noqa: SLF001
        with tempfile.NamedTemporaryFile(prefix="upload-", suffix=".tar") as local:
            # Wheels are compressed already; the names are what the host checks the contents against.
            with tarfile.open(local.name, "w") as archive:
                for sha256, path in files.items():
                    archive.add(path, arcname=sha256)
            self._transfer_file(local.name, remote)
        return str(remote)
