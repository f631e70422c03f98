"""Uploads the files of a release that a host does not have, in one piece, and stages it there."""

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


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module of the same name. `files` are places on the controller by SHA-256, `missing` those that the survey did not find on the host."""

    TRANSFERS_FILES = True
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Upload and stage."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        wait = float(args.pop("lock_wait", 0) or 0)
        files, missing = args.pop("files"), args.pop("missing")
        try:
            if missing:
                args["uploads"] = self._upload({sha256: Path(files[sha256]) for sha256 in missing})
            answer = until_locked(
                lambda args: dict(self._execute_module(module_args=args, task_vars=task_vars)), args, wait
            )
        except FileNotFoundError as error:
            answer = {
                "problem": f"{error.filename} is gone from the controller's cache; run again, and it is fetched or built anew"
            }
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001  the documented way of action plugins
        return {**result, **answer}

    def _upload(self, files: dict[str, Path]) -> str:
        remote = self._connection._shell.join_path(self._make_tmp_path(), "files.tar")  # noqa: SLF001
        with tempfile.NamedTemporaryFile(prefix="upload-", suffix=".tar") as local:
            # Wheels are compressed already; the names are what the host checks the contents against.
            with tarfile.open(local.name, "w") as archive:
                for sha256, path in files.items():
                    archive.add(path, arcname=sha256)
            self._transfer_file(local.name, remote)
        return str(remote)
