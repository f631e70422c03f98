"""The pipelines in docs/ci: GitLab and GitHub would take them, and every command in them exists."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from project import ROOT, imported, load

from praetor.run.options import PLAYBOOKS

SCHEMAS = {"gitlab-ci.yml": "vendor.gitlab-ci", "github-workflow.yml": "vendor.github-workflows"}
# A command and what follows it on its line; lines that end with a backslash go on.
PLAYBOOK = re.compile(r"ansible-playbook (playbooks/\w+\.yml)((?:[^\n|&;\\]|\\\n)*)")


def texts(value: Any) -> Iterator[str]:
    """Yield every string in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def commands(pipeline: str) -> str:
    """Return what a pipeline runs, one command a line, without comments."""
    lines = "\n".join(texts(load(ROOT / "docs" / "ci" / pipeline)))
    return re.sub(r"(?m)^\s*#.*$", "", lines)


def test_every_pipeline_is_tested() -> None:
    assert {path.name for path in (ROOT / "docs" / "ci").glob("*.yml")} == set(SCHEMAS)


@pytest.mark.parametrize(("pipeline", "schema"), SCHEMAS.items())
def test_the_service_would_take_the_pipeline(pipeline: str, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(ROOT / "docs/ci" / pipeline)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("pipeline", SCHEMAS)
def test_every_make_target_of_a_pipeline_exists(pipeline: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    named = re.findall(r"(?m)^make ([a-z -]+?)(?: &&.*)?$", commands(pipeline))
    assert {target for line in named for target in line.split()} >= {"setup", "lint", "unit", "app-test", "molecule"}
    assert {target for line in named for target in line.split()} - targets == set()


@pytest.mark.parametrize(("pipeline", "matrix"), [("gitlab-ci.yml", "parallel"), ("github-workflow.yml", "strategy")])
def test_a_pipeline_tests_on_the_python_of_each_supported_debian(pipeline: str, matrix: str) -> None:
    found = load(ROOT / "docs/ci" / pipeline)
    jobs = found.get("jobs", found)
    supported = {each.partition(" on ")[0] for each in load(ROOT / "roles/base/vars/main.yml")["__base_supported"]}
    for job in ("checks", "machines"):
        assert {f"Debian {each}" for each in re.findall(r"\b1[0-9]\b", str(jobs[job][matrix]))} == supported


@pytest.mark.parametrize("pipeline", SCHEMAS)
def test_every_playbook_and_option_of_a_pipeline_exists(pipeline: str) -> None:
    found = PLAYBOOK.findall(commands(pipeline))
    assert {name for name, _ in found} >= {"playbooks/check.yml", "playbooks/build.yml", "playbooks/release.yml"}
    for name, words in found:
        playbook = ROOT / name
        assert playbook.is_file(), name
        assert set(re.findall(r"-e (\w+)=", words)) - PLAYBOOKS[playbook.stem].keys() == set(), name
        for inventory in re.findall(r"-i \"?inventories/(\w+)", words):
            assert (ROOT / "inventories" / inventory / "hosts.yml").is_file(), inventory


@pytest.mark.parametrize("pipeline", SCHEMAS)
def test_what_was_built_once_is_what_staging_and_production_release(pipeline: str) -> None:
    found = PLAYBOOK.findall(commands(pipeline))
    assert [name for name, _ in found].count("playbooks/build.yml") == 1
    for name, words in found:
        if name == "playbooks/release.yml":
            assert re.search(r' -e app="\$APP" ', words)
            assert re.search(r'(?i) -e release="\$release"', words)
    caches = [
        re.findall(r"-e release_cache=(\S+)", words)
        for name, words in found
        if name in {"playbooks/build.yml", "playbooks/release.yml"}
    ]
    assert caches == [caches[0]] * 3
    assert caches[0]


@pytest.mark.parametrize("pipeline", SCHEMAS)
@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("pythons", [["cp313"], ["cp311", "cp313"]])
def test_a_pipeline_finds_the_release_in_what_the_build_says(pipeline: str, quote: str, pythons: list[str]) -> None:
    built = {"app": "api", "id": "1.4.0+g1_2-5e0b9c1d", "python": pythons}
    line = imported("plugins/action/app_build.py").told(built, known=False)
    expression = re.search(r"sed -n '([^']+)' ", commands(pipeline))
    assert expression is not None
    done = subprocess.run(
        ["sed", "-n", expression[1]],
        input=f"ok: [staging1] => (item=api) =>\n    msg: {quote}{line}{quote}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "release=1.4.0+g1_2-5e0b9c1d\n"
