"""What is in an image, and that it is what hosts get."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import engine
import pytest
from conftest import IMAGE, Start, build, git
from engine import docker
from project import ROOT

LARGEST_MB = 190
INVENTORY = "tests/image/inventory"


def inside(image: str, *words: str) -> str:
    """What a program prints that runs in an image as root, with nothing else started."""
    return docker("run", "--rm", "--user", "0", "--entrypoint", words[0], image, *words[1:]).stdout


def facts(image: str) -> dict[str, str]:
    """What the image says about itself."""
    found: dict[str, str] = json.loads(inside(image, "cat", "/etc/praetor-image.json"))
    return found


@pytest.fixture(scope="module")
def committed(image: str) -> str:  # noqa: ARG001  most of it is in the cache then
    """Build the image as `make image` does, and return its id."""
    commit, created = git("log", "-1", "--format=%H", "--", "app"), git("log", "-1", "--format=%cI")
    return build("--build-arg", f"COMMIT={commit}", "--build-arg", f"CREATED={created}")


def test_it_is_small(image: str) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
    assert size <= LARGEST_MB * 1_000_000


def test_nothing_in_it_lends_rights_or_can_be_written_by_everybody(image: str) -> None:
    assert inside(image, "find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
    writable = inside(image, "find", "/", "-xdev", "-perm", "-0002", "-not", "-type", "l", "-not", "-type", "c").split()
    assert set(writable) <= {"/tmp", "/var/tmp", "/run", "/run/lock", "/dev/mqueue", "/dev/shm"}  # noqa: S108  with the sticky bit
    # The image's user, and any other with group 0, writes to the data directory and to nothing else.
    own = inside(image, "find", "/", "-xdev", "-user", "10001", "-perm", "/0200")
    group = inside(
        image,
        "find",
        "/",
        "-xdev",
        "(",
        "-group",
        "10001",
        "-o",
        "-group",
        "0",
        ")",
        "-perm",
        "/0020",
        "-not",
        "-type",
        "l",
    )
    found = {path for path in (own + group).split() if not path.startswith(("/proc", "/dev"))}
    assert found - set(writable) == {"/srv/apps/api/data"}


def test_no_secret_and_no_tool_of_the_build_is_in_it(image: str) -> None:
    names = inside(
        image,
        "find",
        "/",
        "-xdev",
        "-name",
        "*vault*",
        "-o",
        "-name",
        "git",
        "-o",
        "-name",
        "ansible*",
        "-o",
        "-name",
        "uv",
    )
    assert names == ""


def test_the_release_is_that_of_hosts(committed: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/build.yml", "-i", "inventories/container"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = re.findall(r"api (\S+): release it with", done.stdout)
    assert facts(committed)["release"] == found


def test_labels_and_the_bill_of_materials_say_what_it_is(committed: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", committed).stdout)
    said = {name.rpartition(".")[2]: value for name, value in labels.items() if name.startswith("org.opencontainers")}
    assert said["title"] == "api"
    assert said["revision"] == git("log", "-1", "--format=%H", "--", "app")
    assert said["created"] == git("log", "-1", "--format=%cI")
    place = f"/srv/apps/api/releases/{facts(committed)['release']}"
    bill = json.loads(inside(committed, "cat", f"{place}/sbom.json"))
    listed = {component["name"] for component in bill["components"]}
    installed = inside(committed, "sh", "-c", f"ls -d {place}/venv/lib/python3*/site-packages/*.dist-info")
    names = {Path(path).name.split("-")[0].replace("_", "-").lower() for path in installed.split()}
    assert bill["bomFormat"] == "CycloneDX"
    assert names <= listed | {name.replace(".", "-") for name in listed}


def content(image: str) -> dict[str, tuple[str, int, int, int, str]]:
    """Kind, mode, owner, group and content of everything in an image."""
    container = docker("create", image).stdout.strip()
    try:
        done = subprocess.run(["docker", "export", container], env=engine.ENVIRONMENT, capture_output=True, check=True)
    finally:
        docker("rm", "--volumes", container)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(file.read()).hexdigest() if file else member.linkname
            found[member.name] = (str(member.type), member.mode, member.uid, member.gid, digest)
    return found


def test_the_same_input_makes_the_same_image(committed: str, tmp_path: Path) -> None:
    files = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    # No part of the image, and enough for the release to be built again.
    (tmp_path / "molecule" / "again").write_text("again")
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", committed).stdout)
    given = {"COMMIT": "org.opencontainers.image.revision", "CREATED": "org.opencontainers.image.created"}
    words = [word for name, label in given.items() for word in ("--build-arg", f"{name}={labels[label]}")]
    again = build(*words, context=str(tmp_path))
    assert again != committed
    first, second = content(committed), content(again)
    assert {name for name in first | second if first.get(name) != second.get(name)} == set()


@pytest.mark.parametrize(("app", "path"), [("bin", "/uuid"), ("notes", "/")])
def test_any_app_of_an_inventory_becomes_an_image(start: Start, app: str, path: str) -> None:
    image = build("--build-arg", f"INVENTORY={INVENTORY}", "--build-arg", f"APP={app}")
    container = start(image=image, options=("--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp"))  # noqa: S108  inside
    container.ready(path=path)
    assert facts(image)["app"] == app
    assert container.run("stat", "-c", "%u", "/proc/1").strip() == "10001"


def test_debian_12_is_a_base_too(start: Start) -> None:
    image = build("--build-arg", f"BASE={engine.base('bookworm')}")
    container = start(image=image).ready()
    assert json.loads(container.get("/version")[1])["python"].startswith("3.11.")
    assert facts(image)["release"] == facts(IMAGE)["release"]
