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
  guards:
    description:
      - A directory that can be read with these passwords only. While anything is in it, another one than the host keeps is refused.
      - With it nothing is written and nothing returned, so that the refusal can be shown where passwords must not be.
    type: path
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


class KeptError(Exception):
    """Why a password is not replaced."""


def refuse_to_replace(directory: Path, given: dict[str, str], guards: Path) -> None:
    """Keep passwords without which something could no longer be read.

    Raises:
        KeptError: another one was given.

    """
    kept = {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()} if directory.is_dir() else {}
    other = [name for name, text in given.items() if name in kept and kept[name] != text]
    if other and guards.is_dir() and {path.name for path in guards.iterdir()} - {"lost+found"}:
        message = (
            f"found another {other[0]} in the inventory than the one in {directory / other[0]}, with which what is in {guards} was made: "
            f"nothing else reads it. Nothing was changed. Give that one, or leave it out of the inventory; to give up what is in {guards} "
            f"and begin with the other one: rm -r {guards}/* {directory / other[0]}"
        )
        raise KeptError(message)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "given": {"type": "dict", "default": {}, "no_log": True},
            "make": {"type": "list", "elements": "str", "default": []},
            "guards": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["guards"]:
            refuse_to_replace(Path(params["directory"]), params["given"], Path(params["guards"]))
            module.exit_json(changed=False)
    except KeptError as error:
        module.fail_json(msg=str(error))
    found, changed = keep(Path(params["directory"]), params["given"], params["make"], dry=module.check_mode)
    module.exit_json(changed=changed, passwords=found)


if __name__ == "__main__":
    main()
