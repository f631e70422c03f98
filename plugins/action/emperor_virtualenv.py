"""Makes the Emperors' virtualenv on a host; uploads its wheels in one piece, and only when the host says that it needs them."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: those of `praetor.host.emperor_virtualenv.work`; `wheels` are files on the controller."""

    _supports_check_mode = True
    TRANSFERS_FILES = True
    WORK = "emperor_virtualenv"
    ARGUMENTS = {  # noqa: RUF012  read only
        "directory": {"type": "path", "required": True},
        "requirements": {"type": "str", "required": True},
        "wheels": {"type": "list", "elements": "path", "required": True},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Ask, and upload if need be."""
        wheels = [Path(path) for path in args.pop("wheels")]
        asked = {**args, "check": self._task.check_mode}
        answer = super().do(asked)
        if not answer.get("needs_wheels"):
            return answer
        try:
            remote = self._connection._shell.join_path(self._make_tmp_path(), "wheels.tar")  # noqa: SLF001  the documented way of action plugins
            with tempfile.NamedTemporaryFile(prefix="wheels-", suffix=".tar") as local:
                with tarfile.open(local.name, "w") as archive:
                    for path in wheels:
                        archive.add(path, arcname=path.name)
                self._transfer_file(local.name, remote)
            return super().do({**asked, "uploads": remote})
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001
