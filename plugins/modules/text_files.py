"""Ansible module: several text files in one call."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: text_files
short_description: Write several text files in one call
description:
  - Writes root's files that everybody may read (0644, directories 0755), each by a rename, and only what differs.
  - M(ansible.builtin.copy) and M(ansible.builtin.template) take two calls per file, which is most of the time of a run that changes nothing.
  - Files that belong together are checked together by C(validate), before the first of them is replaced.
options:
  files:
    description: Text of each file, by its path.
    type: dict
    required: true
  initial:
    description: Text of files that are written where there is none, and else left as they are.
    type: dict
    default: {}
  alone_in:
    description: Directories that hold nothing but files of this call; whatever else lies in them is removed.
    type: list
    elements: path
    default: []
  validate:
    description:
      - Programs with their arguments that judge the files; C(%s) stands for a directory that has all of them at their own paths,
        so a file that names another one of these relatively finds the new one.
      - Run when something differs. In check mode a program that is not installed yet judges nothing.
    type: list
    elements: list
    default: []
"""

RETURN = r"""
written:
  description: Files that were missing or different.
  type: list
  elements: str
removed:
  description: What was removed from the directories in alone_in.
  type: list
  elements: str
"""


def current(path: Path) -> str | None:
    """Return what is in a file that is as it should be but for its text; none if it must be written anyway."""
    try:
        status = path.lstat()
        if (status.st_mode, status.st_uid, status.st_gid) != (0o100644, os.geteuid(), os.getegid()):
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def kept(initial: dict[str, str]) -> dict[str, str]:
    """Return files with the text that they have, those that are missing with their initial one."""
    return {
        path: Path(path).read_text(encoding="utf-8", errors="surrogateescape") if Path(path).is_file() else text
        for path, text in initial.items()
    }


def strays(directory: Path, files: dict[str, str]) -> list[Path]:
    """Name what lies in a directory and is none of the files, directories after what is in them."""
    found = sorted(directory.rglob("*"), reverse=True)
    parents = {parent for path in files for parent in Path(path).parents}
    return [path for path in found if str(path) not in files and path not in parents]


def write(path: Path, text: str) -> None:
    """Put a file in its place at once; a run that dies leaves the old one."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fchmod(handle, 0o644)
        os.fsync(handle)
    Path(name).replace(path)


def judge(files: dict[str, str], commands: list[list[str]]) -> str:
    """Ask programs about the files while they are somewhere else.

    Returns:
        An empty string, or what one of them said against the files.

    """
    with tempfile.TemporaryDirectory() as staged:
        for path, text in files.items():
            write(Path(f"{staged}{path}"), text)
        for command in commands:
            argv = [argument.replace("%s", staged) for argument in command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                said = f"{done.stdout}{done.stderr}".replace(staged, "").strip()
                return f"{' '.join(command[:3])} ended with {done.returncode}:\n{said}"
    return ""


def apply(files: dict[str, str], alone_in: list[str], *, dry: bool) -> dict[str, Any]:
    """Write and remove what differs, or only say so.

    Returns:
        `written`, `removed` and `diff`, as the module returns them.

    """
    previous = {path: current(Path(path)) for path in files}
    written = sorted(path for path, text in files.items() if previous[path] != text)
    removed = [stray for directory in alone_in for stray in strays(Path(directory), files)]
    diff = [
        {"before_header": path, "after_header": path, "before": previous[path] or "", "after": files[path]}
        for path in written
    ]
    if not dry:
        for path in written:
            write(Path(path), files[path])
        for stray in removed:
            if stray.is_dir() and not stray.is_symlink():
                stray.rmdir()
            else:
                stray.unlink()
    return {"written": written, "removed": [str(stray) for stray in removed], "diff": diff}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "initial": {"type": "dict", "default": {}},
            "alone_in": {"type": "list", "elements": "path", "default": []},
            "validate": {"type": "list", "elements": "list", "default": []},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    files, alone_in, commands = (module.params[key] for key in ("files", "alone_in", "validate"))
    files = {**files, **kept(module.params["initial"])}
    nowhere = [path for path in files if not Path(path).is_absolute()]
    if nowhere:
        # A key of a mapping in YAML is no template: such a name is taken as it is written.
        module.fail_json(msg=f"files: found {nowhere[0]!r}, expected an absolute path; nothing was written")
    planned = apply(files, alone_in, dry=True)
    if module.check_mode:
        commands = [command for command in commands if shutil.which(command[0])]
    if planned["written"] or planned["removed"]:
        against = judge(files, commands)
        if against:
            module.fail_json(msg=f"Nothing was written: {against}")
    result = planned if module.check_mode else apply(files, alone_in, dry=False)
    module.exit_json(changed=bool(result["written"] or result["removed"]), **result)


if __name__ == "__main__":
    main()
