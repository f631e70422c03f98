"""Uploads wheels for a virtualenv, in one piece and only when the host says that it needs them."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module of the same name; `wheels` are files on the controller."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and upload if need be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        wheels = [Path(path) for path in args.pop("wheels")]
        answer: dict[str, Any] = self._execute_module(module_args=args, task_vars=task_vars)
        if answer.get("needs_wheels"):
            try:
                remote = self._connection._shell.join_path(self._make_tmp_path(), "wheels.tar")  # noqa: SLF001  the documented way of action plugins
                with tempfile.NamedTemporaryFile(prefix="wheels-", suffix=".tar") as local:
                    with tarfile.open(local.name, "w") as archive:
                        for path in wheels:
                            archive.add(path, arcname=path.name)
                    self._transfer_file(local.name, remote)
                answer = self._execute_module(module_args={**args, "uploads": remote}, task_vars=task_vars)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001
        return {**result, **answer}
