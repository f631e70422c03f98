"""Ansible module: passwords that are made on a host and kept there, one file each, root's alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kept_passwords
short_description: Keep passwords on a host, and make those that are missing
options:
  directory:
    description: Where they are, a file each; root's alone.
    type: path
    required: true
  given:
    description: Passwords by name, which are written; no other file is touched.
    type: dict
    default: {}
  make:
    description: Names that get a password where neither C(given) nor the host has one.
    type: list
    elements: str
    default: []
"""

RETURN = r"""
passwords:
  description: Every password that the host has, by name.
  type: dict
"""


def put(path: Path, text: str) -> None:
    """Write a file that nobody else can read at any moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def keep(directory: Path, given: dict[str, str], make: list[str], *, dry: bool) -> tuple[dict[str, str], bool]:
    """Return all passwords, and whether one was written."""
    files = sorted(directory.iterdir()) if directory.is_dir() else []
    found = {path.name: path.read_text(encoding="utf-8") for path in files if not path.name.startswith(".")}
    wanted = {name: given.get(name) or found.get(name) or secrets.token_hex(24) for name in [*make, *given]}
    changed = {name: text for name, text in wanted.items() if found.get(name) != text}
    for name, text in {} if dry else changed.items():
        put(directory / name, text)
    return found | wanted, bool(changed)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "given": {"type": "dict", "default": {}, "no_log": True},
            "make": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    found, changed = keep(Path(params["directory"]), params["given"], params["make"], dry=module.check_mode)
    module.exit_json(changed=changed, passwords=found)


if __name__ == "__main__":
    main()
