"""The documentation: generated pages are current, links lead somewhere, decisions keep their form."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.splitter import parse_kv
from project import PLAYBOOKS as PLAYBOOK_FILES
from project import ROLES, ROOT, files_of, options

from praetor.run.options import PLAYBOOKS

PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in files_of("*.md", "docs/**/*.md", "roles/*/README.md", "inventories/*.md", "app/README.md", "bench/*.md")
]
DECISIONS = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))


def test_the_reference_is_current() -> None:
    command = [sys.executable, "docs/generate_reference.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def anchors(page: Path) -> set[str]:
    """Return what a link to a page can point at: its headings, as Git hosts spell them, and its named places."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    spelled = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return spelled | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", PAGES)
def test_links_to_a_place_in_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, place in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text):
        assert place in anchors((ROOT / page).parent / target if target else ROOT / page), f"{target}#{place}"


@pytest.mark.parametrize("page", [*PAGES, *PLAYBOOK_FILES])
def test_options_with_spaces_are_quoted_for_the_shell_and_for_ansible(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for option in re.findall(r"""-e (\w+=(?:"[^"]*"|'[^']*'))""", text):
        [typed] = shlex.split(option)
        assert "_raw_params" not in parse_kv(typed), option


def test_decisions_are_numbered_without_a_gap_and_listed() -> None:
    assert [name[:4] for name in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\((0[^)]*)\)", index) == DECISIONS


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_is_one_page_in_the_agreed_form(name: str) -> None:
    lines = (ROOT / "docs" / "decisions" / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith(f"# {name[:4]}: ")
    assert re.match(r"Status: (accepted|(in part )?replaced by \d{4})\. Date: \d{4}-\d\d-\d\d$", lines[2])
    headings = [line for line in lines if line.startswith("## ")]
    expected = ["Context and problem", "Options", "Decision", "Consequences", "What must hold"]
    assert headings == [f"## {heading}" for heading in expected]


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_documentation_name_playbooks_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for playbook in re.findall(r"\bplaybooks/[a-z_]+\.yml", text):
        assert (ROOT / playbook).exists(), playbook


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_documentation_are_options_of_their_playbook(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    inputs = {name for role in ROLES for name in options(role)}
    # A command is a code span, or a line that is set in as code.
    commands = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^(?: {4,}|\$ )(.*)$", text, re.MULTILINE)
    for command in commands:
        playbook = re.search(r"\b(\w+)\.yml\b", command)
        if playbook and playbook[1] in PLAYBOOKS:
            given = set(re.findall(r"-e (\w+)=", command[playbook.end() :]))
            assert given - {"help"} - PLAYBOOKS[playbook[1]].keys() - inputs == set(), command
