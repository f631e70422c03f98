"""What a public project has: a licence, one version, a changelog, hooks that run the checks of `make lint`."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from project import ROOT, files_of, load

PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation)\b")


def lint_commands() -> set[str]:
    """Return the commands of `make lint`."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    return {command.strip() for line in recipe[1].splitlines() for command in line.split("&&")}


@pytest.mark.parametrize(
    "name", ["LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "README.md", ".editorconfig"]
)
def test_a_stranger_finds_the_usual_file(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_the_project_has_one_version_and_the_changelog_begins_with_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == version
    assert importlib.metadata.version("praetor") == version, "run make setup"
    places = [
        path.relative_to(ROOT).as_posix()
        for path in files_of("src/**/*.py", "plugins/**/*.py", "playbooks/**/*.yml", "Makefile", "README.md")
        if re.search(rf"\b{re.escape(version)}\b(?!-)", path.read_text(encoding="utf-8"))
    ]
    assert places == []


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_a_package_whose_licence_asks_for_more_is_looked_at_in_the_decision() -> None:
    decision = (ROOT / "docs" / "decisions" / "0030-licence.md").read_text(encoding="utf-8")
    packages: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        told = package.metadata
        kinds = [kind for kind in told.get_all("Classifier", []) if kind.startswith("License")]
        packages[told["Name"]] = " ".join(told.get_all("License-Expression", []) + told.get_all("License", []) + kinds)
    assert len(packages) > 50
    restrictive = {name for name, licence in packages.items() if not PERMISSIVE.search(licence)}
    assert {name for name in restrictive if not re.search(rf"\b{re.escape(name)}\b", decision)} == set()


def test_hooks_run_exactly_the_checks_of_make_lint() -> None:
    hooks = [hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].removeprefix(".venv/bin/") for hook in hooks} == lint_commands()


def test_hooks_download_nothing() -> None:
    config = load(ROOT / ".pre-commit-config.yaml")
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {hook["language"] for repo in config["repos"] for hook in repo["hooks"]} == {"system"}


def test_pre_commit_takes_its_configuration() -> None:
    command = [str(Path(sys.executable).with_name("pre-commit")), "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
