"""Runs one phase of a run on a host; before the phases that begin a run it waits for the lock, and uploads what a release needs."""

from __future__ import annotations

import base64
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.on_host import HostAction  # noqa: E402
from praetor.owner import until_locked  # noqa: E402
from praetor.phases import PHASES  # noqa: E402

SMALL = 2**20  # bytes; held in memory once for each host
_WAITS = {"lock_wait": {"type": "float", "default": 0}}
_SENDS = {"files": {"type": "dict", "default": {}}, "missing": {"type": "list", "elements": "str", "default": []}}
# What the phases that begin a run are told, and the host is not.
BEGINNING: dict[str, dict[str, Any]] = {"lock": _WAITS, "stage": {**_WAITS, **_SENDS}}


class ActionModule(HostAction):
    """Arguments: `app`, `run`, and one phase with what it is told, see `praetor.phases`.

    `lock` and `stage` take `lock_wait`, how many seconds to wait for another run; the lock of a dead owner is taken over.
    `stage` takes `files`, places on the controller by SHA-256, and `missing`, those that the survey did not find on the host.
    """

    TRANSFERS_FILES = True
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
        """Run the phase; `problem` in its result is for the fleet to judge."""
        [phase] = [name for name in PHASES if args[name] is not None]
        told = args[phase]
        wait = told.pop("lock_wait", 0)
        files, missing = told.pop("files", {}), told.pop("missing", [])
        secret = told.get("secrets", {}).values()
        try:
            if missing:
                told |= self._bring({sha256: Path(files[sha256]) for sha256 in missing})
            if phase in BEGINNING:
                return until_locked(lambda now: self.on_host({**args, phase: now}, secret), told, wait)
            return self.on_host(args)
        except FileNotFoundError as error:
            gone = f"{error.filename} is gone from the controller's cache; run again, and it is fetched or built anew"
            return {"problem": gone}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001  the documented way of action plugins

    def _bring(self, files: dict[str, Path]) -> dict[str, str]:
        """Bring a tar of files to the host: a small one goes along with the phase, which saves three commands over SSH."""
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
