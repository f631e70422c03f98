#!/usr/bin/python
"""Make a virtualenv from locked requirements and point a link to it; its action plugin uploads the wheels when they are needed."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import tarfile
import tempfile
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from typing import Any


def make(module: Any, place: pathlib.Path, requirements: str, uploads: str) -> None:
    """Fill a virtualenv, offline and by hash; the file `complete` is written last, and a virtualenv without it is made again."""
    shutil.rmtree(place, ignore_errors=True)
    module.run_command(["python3", "-m", "venv", str(place)], check_rc=True)
    with tempfile.TemporaryDirectory(prefix="wheels-") as scratch:
        with tarfile.open(uploads) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    (pathlib.Path(scratch) / pathlib.Path(member.name).name).write_bytes(content.read())
        lock = pathlib.Path(scratch) / "requirements.txt"
        lock.write_text(requirements, encoding="utf-8")
        command = [
            str(place / "bin/pip"),
            "install",
            "--quiet",
            "--no-index",
            f"--find-links={scratch}",
            "--require-hashes",
            f"--requirement={lock}",
        ]
        module.run_command(command, check_rc=True)
    (place / "complete").touch()


def main() -> None:
    """Say whether the wheels are needed, or use them."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "uploads": {"type": "path"},
        },
        supports_check_mode=True,
    )
    directory = pathlib.Path(module.params["directory"])
    # Named after its content, so that an upgrade never changes files under a running Emperor.
    place = directory / f"venv-{hashlib.sha256(module.params['requirements'].encode()).hexdigest()[:12]}"
    link = directory / "venv"
    complete = (place / "complete").is_file()
    changed = not complete or not link.is_symlink() or link.readlink() != place
    if not changed or module.check_mode:
        module.exit_json(changed=changed, needs_wheels=False)
    if not complete and not module.params["uploads"]:
        module.exit_json(changed=False, needs_wheels=True)
    if not complete:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        make(module, place, module.params["requirements"], module.params["uploads"])
    new = directory / ".venv.new"
    new.unlink(missing_ok=True)
    new.symlink_to(place)
    new.rename(link)
    module.exit_json(changed=True, needs_wheels=False)


if __name__ == "__main__":
    main()
