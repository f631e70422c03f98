"""Ansible module: the key that logs in to a lab's machines, and the connections that were made with it."""

from __future__ import annotations

import contextlib
import pwd
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lab_access
short_description: The key that logs in to a lab's machines
options:
  lab_dir: {description: State directory of the lab; keys and connections are in its folder ssh, type: path, required: true}
  state:
    description: Whether the key is there. C(absent) ends the connections and removes the lab's directory.
    type: str
    choices: [present, absent]
    default: present
  lab: {description: Name of the lab; the key's comment, type: str, required: true}
  owner: {description: User of this machine who may read the key, type: str}
"""


def owned_by(path: Path, owner: str, mode: int) -> bool:
    """Give a path to a user and say whether that changed anything."""
    uid, stat = pwd.getpwnam(owner).pw_uid, path.stat()
    if (stat.st_uid, stat.st_mode & 0o7777) == (uid, mode):
        return False
    shutil.chown(path, uid)
    path.chmod(mode)
    return True


def close_connections(folder: Path) -> None:
    """End the ssh processes that keep a connection open for the next command."""
    for socket in folder.glob("connections/*"):
        subprocess.run(["ssh", "-F", "none", "-S", str(socket), "-O", "exit", "lab"], check=False, capture_output=True)
    shutil.rmtree(folder / "connections", ignore_errors=True)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "lab_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "lab": {"type": "str", "required": True},
            "owner": {"type": "str"},
        },
        required_if=[("state", "present", ("owner",))],
        supports_check_mode=True,
    )
    lab_dir, owner = Path(module.params["lab_dir"]), module.params["owner"]
    folder = lab_dir / "ssh"
    private, public = folder / "id_ed25519", folder / "id_ed25519.pub"
    if module.params["state"] == "absent":
        there = lab_dir.exists()
        if there and not module.check_mode:
            close_connections(folder)
            shutil.rmtree(lab_dir)
            with contextlib.suppress(OSError):  # not empty: the home of other labs too
                lab_dir.parent.rmdir()
        module.exit_json(changed=there)
    if module.check_mode:
        module.exit_json(changed=not public.exists())
    changed = not public.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if changed:  # the public half is written last, so without it the private one may be half
        private.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", module.params["lab"], "-f", str(private)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    if folder.stat().st_uid != pwd.getpwnam(owner).pw_uid:
        close_connections(folder)  # nobody else could use them, or make more of them
    moved = [owned_by(path, owner, mode) for path, mode in ((folder, 0o755), (private, 0o600), (public, 0o644))]
    module.exit_json(changed=changed or any(moved))


if __name__ == "__main__":
    main()
