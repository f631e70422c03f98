"""Building: the same input makes the same image, with the release that hosts get, of any app."""

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
import time
from pathlib import Path

import engine
import pytest
from conftest import IMAGE, LOCKED, Start, build, facts, git, inside
from engine import docker
from project import ROOT

INVENTORY = "tests/image/inventory"


@pytest.fixture(scope="module")
def committed(image: str) -> str:  # noqa: ARG001  most of it is in the cache then
    """Build the image as `make image` does, and return its id."""
    commit, created = git("log", "-1", "--format=%H", "--", "app"), git("log", "-1", "--format=%cI")
    return build("--build-arg", f"COMMIT={commit}", "--build-arg", f"CREATED={created}")


def labels(image: str) -> dict[str, str]:
    """Return what OCI has names for, without the prefix of these."""
    found = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image).stdout)
    prefix = "org.opencontainers.image."
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def built_for_hosts(*options: str) -> str:
    """Build the release as a controller does, and return its id."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/build.yml"]
    done = subprocess.run(
        [*command, "-i", "inventories/container", *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = re.findall(r"api (\S+): release it with", done.stdout)
    return str(found)


def test_the_release_is_that_of_hosts(committed: str) -> None:
    found = built_for_hosts()
    assert facts(committed)["release"] == found
    # Without the commit it is another one: the image has no history to ask.
    assert facts(IMAGE)["release"] != found


@pytest.mark.long
def test_the_release_is_that_of_hosts_which_all_have_one_python(committed: str) -> None:
    image = build("--build-arg", f"COMMIT={labels(committed)['revision']}", "--build-arg", "PYTHONS=3.13")
    found = built_for_hosts("-e", "pythons=3.13")
    assert facts(image)["release"] == found
    assert found != facts(committed)["release"]
    refused = docker("build", "--network", "host", "--build-arg", "PYTHONS=3.11", ".", check=False, timeout_s=900)
    assert refused.returncode != 0
    assert "api was built for cp311, and the base image has cp313" in " ".join(refused.stdout.split())


def test_labels_and_the_bill_of_materials_say_what_it_is(committed: str) -> None:
    assert labels(committed) == {
        "title": "api",
        "revision": git("log", "-1", "--format=%H", "--", "app"),
        "created": git("log", "-1", "--format=%cI"),
        "base.name": "debian:trixie-slim",
    }
    place = f"/srv/apps/api/releases/{facts(committed)['release']}"
    bill = json.loads(inside(committed, "cat", f"{place}/sbom.json"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(name_of(each["name"]), each["version"]) for each in bill["components"]}
    installed = inside(committed, "sh", "-c", f"ls -d {place}/venv/lib/python3*/site-packages/*.dist-info")
    names = [Path(path).name.removesuffix(".dist-info").split("-") for path in installed.split()]
    assert len(names) > 10
    assert {(name_of(name), version) for name, version in names} <= listed


def name_of(text: str) -> str:
    """Return the one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", text).lower()


def content(image: str) -> dict[str, tuple[str, int, int, int, str]]:
    """Return kind, mode, owner, group and content of everything in an image."""
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


@pytest.mark.long
def test_the_same_input_makes_the_same_image(committed: str, tmp_path: Path) -> None:
    files = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    # No part of the image, and enough for the release to be built again.
    (tmp_path / "molecule" / "again").write_text("again")
    said = labels(committed)
    again = build(
        "--build-arg",
        f"COMMIT={said['revision']}",
        "--build-arg",
        f"CREATED={said['created']}",
        context=str(tmp_path),
    )
    first, second = content(committed), content(again)
    assert {
        name: (first.get(name), second.get(name)) for name in first | second if first.get(name) != second.get(name)
    } == {}


@pytest.mark.long
@pytest.mark.parametrize(("app", "path"), [("httpbin", "/uuid"), ("notes", "/")])
def test_any_app_of_an_inventory_becomes_an_image(start: Start, app: str, path: str) -> None:
    image = build("--build-arg", f"INVENTORY={INVENTORY}", "--build-arg", f"APP={app}")
    container = start(image=image, options=tuple(LOCKED)).ready(path=path)
    assert facts(image)["app"] == app
    assert labels(image)["title"] == app
    assert container.run("stat", "-c", "%u", "/proc/1").strip() == "10001"


@pytest.mark.long
def test_a_process_of_an_app_runs_in_a_container_and_finishes_what_it_has_begun(start: Start) -> None:
    image = build("--build-arg", f"INVENTORY={INVENTORY}", "--build-arg", "APP=notes")
    container = start("worker", "ticker", image=image, options=tuple(LOCKED))
    deadline = time.monotonic() + 60
    while "begun" not in container.messages():
        assert time.monotonic() < deadline, container.inspect("{{json .State}}")
        time.sleep(0.1)
    assert container.said()[0]["name"] == f"ticker-{container.inspect('{{.Config.Hostname}}')}"
    docker("stop", "--time", "30", container.name)
    assert container.messages() == ["begun", "finished"]
    assert container.inspect("{{.State.ExitCode}}") == "0"
    refused = start("worker", "tiker", image=image)
    assert refused.ended() == (1, "worker tiker: notes has ticker")


@pytest.mark.long
def test_the_same_app_serves_on_the_debian_before(start: Start, committed: str) -> None:
    before = engine.base("bookworm")
    said = labels(committed)
    given = ("--build-arg", f"COMMIT={said['revision']}", "--build-arg", f"CREATED={said['created']}")
    image = build("--build-arg", f"BASE={before}", *given)
    container = start(image=image, options=tuple(LOCKED)).ready(timeout_s=300)
    assert container.get("/items", 80, "--json", '{"name": "nail", "kind": "part"}')[0] == 201
    assert container.run("python3", "-c", "import sys; print(sys.version_info[:2])").strip() == "(3, 11)"
    assert labels(image)["base.name"] == before
    assert facts(image)["release"] == facts(committed)["release"]
    docker("stop", "--time", "120", container.name)
    assert container.inspect("{{.State.ExitCode}}") == "0"
