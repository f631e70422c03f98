"""Ansible module: a cached base tree of one Debian release, from which the machines of all labs are overlays."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lab_base
short_description: A cached base tree of one Debian release
description:
  - Made by mmdebstrap next to its final place and renamed when it is whole, so an interrupted one is made again.
  - The folder's name carries a digest of everything that the tree is made from; another recipe is another tree.
options:
  suite: {description: Code name of the Debian release, type: str, required: true}
  cache_dir: {description: Folder that holds the trees, type: path, required: true}
  sources: {description: Lines for sources.list, type: list, elements: str, required: true}
  apt_options: {description: Settings of apt, one statement each, type: list, elements: str, required: true}
  packages: {description: Packages besides Debian's minimal set, type: list, elements: str, required: true}
  user: {description: Unprivileged user with sudo to make inside, type: str, required: true}
"""

# Run by mmdebstrap with the tree as $1, the user as $USER_NAME. What every machine needs, the same on all.
CUSTOMISE = """
set -eu
chroot "$1" useradd --create-home --shell /bin/bash "$USER_NAME"
echo "$USER_NAME ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/$USER_NAME"
chmod 0440 "$1/etc/sudoers.d/$USER_NAME"
chroot "$1" systemctl --quiet enable systemd-networkd.service ssh.service
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/resolv.conf" "$1/etc/hostname"
echo LANG=C.UTF-8 >"$1/etc/default/locale"
mkdir -p "$1/var/log/journal"
"""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "suite": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "sources": {"type": "list", "elements": "str", "required": True},
            "apt_options": {"type": "list", "elements": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "user": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = {**module.params, "customise": CUSTOMISE}
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    cache = Path(module.params["cache_dir"])
    tree = cache / f"{module.params['suite']}-{digest}"
    if tree.exists() or module.check_mode:
        module.exit_json(changed=not tree.exists(), path=str(tree))
    cache.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (cache / f".{tree.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two hosts of one release, two labs: the second waits and finds it done
        if tree.exists():
            module.exit_json(changed=False, path=str(tree))
        partial = cache / f"{tree.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        # In separate namespaces: whatever mmdebstrap has mounted or started ends with it, so deleting is always safe.
        # It ends when this module is killed, and holds the lock until it has: the next run does not delete under its feet.
        command = ["setpriv", "--pdeathsig", "KILL"]
        command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command += ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=cleanup/apt/lists"]
        command += [f"--include={','.join(module.params['packages'])}", f"--customize-hook={CUSTOMISE}"]
        command += [f"--aptopt={option}" for option in module.params["apt_options"]]
        command += [module.params["suite"], str(partial), *module.params["sources"]]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "USER_NAME": module.params["user"]}
        held = (lock.fileno(),)
        made = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, pass_fds=held)
        if made.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            module.fail_json(
                msg=f"mmdebstrap could not make a base tree of {module.params['suite']} (status {made.returncode})",
                stderr="\n".join(made.stderr.splitlines()[-20:]),
            )
        partial.rename(tree)
    module.exit_json(changed=True, path=str(tree), took_s=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
