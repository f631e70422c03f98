"""Ansible module: what this machine lacks for a lab, and from where its own package manager takes Debian."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lab_controller
short_description: Facts about the machine that carries a lab; changes nothing
options:
  packages: {description: Debian packages that the lab needs, type: list, elements: str, required: true}
  mirror: {description: Debian mirror to use instead of the configured one, type: str, default: ''}
  lab_dir: {description: State directory of the lab, type: path, required: true}
  hosts: {description: Machines that the lab is to have, type: list, elements: str, default: []}
  recipe:
    description: Files and folders that provision the lab's machines; their digest is returned, empty for none.
    type: list
    elements: path
    default: []
"""

# What apt would download, from its sources alone: there may be no indexes yet, and reading them would take a second.
INDEXES = ("apt-get", "indextargets", "--no-release-info", "-o", "Dir::State::Lists=/nonexistent/")
ALIASES = {"stable", "oldstable", "testing"}
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
# A delayed or frozen mirror is declared with these; hosts that use the same mirror need the same tolerance.
TOLERANCES = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


def output_of(*command: str) -> str:
    """Return what a command prints; nothing where it fails or does not exist."""
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout
    except OSError:
        return ""


def missing_packages(packages: list[str]) -> list[str]:
    """Return those that dpkg does not know as installed."""
    known = output_of("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages).splitlines()
    return [name for name in packages if f"{name} installed" not in known]


def plain_address(uri: str) -> str:
    """Return the http address behind a repository's URI, nothing for what a lab cannot use (cdrom, file, tor)."""
    if uri.startswith("mirror+file:"):  # as on Debian's cloud images: a list of mirrors, best first
        try:
            lines = Path(uri.removeprefix("mirror+file:").replace("//", "/", 1).rstrip("/")).read_text().split()
        except OSError:
            return ""
        uri = next((line for line in lines if line.startswith("http")), "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else ""


def archives(targets: str, codename: str) -> dict[str, str]:
    """Find the addresses of the main, updates and security archives.

    `targets` has a line `uri|release|component` for each index that apt would download (apt-get indextargets).
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        uri, release, component = line.split("|")
        address = plain_address(uri)
        base, _, pocket = release.partition("-")
        base = base.partition("/")[0]
        if address and component == "main" and base in {codename, *ALIASES} and pocket in {"", "updates", "security"}:
            found.setdefault(pocket or "main", address)
    return found


def source_lines(found: dict[str, str], suite: str) -> list[str]:
    """Return the lines of a sources.list for one release at these archives."""
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    pockets = {"main": suite, "updates": f"{suite}-updates", "security": f"{suite}-security"}
    return [f"deb {signed} {found[name]} {release} main" for name, release in pockets.items() if name in found]


def recipe_digest(places: list[str]) -> str:
    """Return a digest of the files in these places, by name and content; empty where there are no places.

    Raises FileNotFoundError where a place does not exist.
    """
    if not places:
        return ""
    digest = hashlib.sha256()
    for place in map(Path, places):
        inside = sorted(path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        for path in [place] if place.is_file() else inside:
            digest.update(f"{path.relative_to(place.parent)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        if not place.exists():
            raise FileNotFoundError(place)
    return digest.hexdigest()


def inotify_needed(lab: Path, hosts: list[str]) -> int:
    """Return how many inotify instances root needs for the machines of this lab and of the others that are there.

    A machine's systemd takes seven or eight, and this machine itself needs some. Root is one user for all of them.
    """
    others = sum(len(folders(lab.parent / other / "machines")) for other in folders(lab.parent) if other != lab.name)
    return 20 + 10 * (others + len({*folders(lab / "machines"), *hosts}))


def folders(parent: Path) -> list[str]:
    """Return the names of the folders inside, none where there is no such folder."""
    return sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "suites": {"type": "list", "elements": "str", "required": True},
            "mirror": {"type": "str", "default": ""},
            "lab_dir": {"type": "path", "required": True},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "recipe": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )  # os-release(5)
    codename = release.get("VERSION_CODENAME", "").strip('"')
    if module.params["mirror"]:
        found = {"main": module.params["mirror"].rstrip("/")}
    else:
        columns = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
        found = archives(output_of(*INDEXES, "--format", columns, "Created-By: Packages"), codename)
    if "main" not in found:
        module.fail_json(
            msg=f"apt on this machine has no http source of Debian {codename or '(unknown)'} for the lab to use. "
            "Set lab_host_mirror to the address of a Debian mirror."
        )
    dump = [output_of("apt-config", "dump", name).strip() for name in TOLERANCES]
    lab = Path(module.params["lab_dir"])
    module.exit_json(
        changed=False,
        missing=missing_packages(module.params["packages"]),
        sources={suite: source_lines(found, suite) for suite in module.params["suites"]},
        mirror_hosts=sorted({urlsplit(address).hostname or "" for address in found.values()}),
        apt_options=[text for text in dump if '"false"' in text],
        machines=folders(lab / "machines"),
        labs=folders(lab.parent),
        recipe=recipe_digest(module.params["recipe"]),
        inotify={
            "limit": int(INOTIFY_LIMIT.read_text()),
            "needed": inotify_needed(lab, module.params["hosts"]),
            # Where /proc/sys is mounted read-only, as in a container, root may not write either.
            "may_raise": os.access(INOTIFY_LIMIT, os.W_OK),
        },
    )


if __name__ == "__main__":
    main()
