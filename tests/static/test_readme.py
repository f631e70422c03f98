"""The front door: short, and every path, command, word and key that it names is there."""

import re
import subprocess
from pathlib import Path

import pytest
from project import ROOT, files_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = re.findall(r'<a id="(\w+)"></a>\*\*(\w+)\*\*', GLOSSARY)
# The rows of "I want to change", each cut into change, place and what to run.
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split(" | ")]
    for line in README.partition("| I want to change |")[2].partition("\n\n")[0].splitlines()[2:]
]
PLACES = [(row[0], place) for row in ROWS for place in re.findall(r"`([\w.<>-]*(?:/[\w.<>/-]*|\.\w+))`", row[1])]


def there(place: str) -> bool:
    """Whether a path of a row exists; `<...>` stands for any name, and a bare file of a role or of the playbooks' tasks for that one."""
    pattern = re.sub(r"<\w+>", "*", place).rstrip("/")
    return any(True for near in ("", "roles/*/", "playbooks/tasks/") for _ in ROOT.glob(near + pattern))


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_the_table_of_changes_is_read() -> None:
    assert len(ROWS) > 15
    assert {len(row) for row in ROWS} == {3}
    assert len(PLACES) > 25


@pytest.mark.parametrize(("change", "place"), PLACES)
def test_the_place_of_a_change_exists(change: str, place: str) -> None:
    assert there(place), f"{change}: {place}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_to_run_after_a_change_exists(row: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    makes = [target for words in re.findall(r"`make ([a-z -]+)`", row[2]) for target in words.split()]
    playbooks = re.findall(r"`(playbooks/\w+\.yml)", row[2])
    assert makes or playbooks
    assert set(makes) - targets == set()
    assert [name for name in playbooks if not (ROOT / name).is_file()] == []


def test_names_of_settings_and_constants_in_the_table_exist() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in files_of(
            "playbooks/*.yml", "plugins/filter/*.py", "roles/*/defaults/main.yml", "src/praetor/inventory/*.py"
        )
    )
    names = {name for row in ROWS for name in re.findall(r"`([a-z]+(?:_[a-z]+)+|[A-Z]{4,})`", row[1])}
    assert names
    assert {name for name in names if not re.search(rf"\b{name}\b", sources)} == set()


def test_the_map_names_every_folder_and_only_those() -> None:
    named = set(re.findall(r"^    ([a-z]+)/(?:praetor/)? ", README, re.MULTILINE))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {Path(name).parts[0] for name in listed.split("\0") if "/" in name and not name.startswith(".")}
    assert named == folders - {"requirements"}  # locks, which `make lock` writes


def test_the_keys_that_hosts_must_be_provisioned_for_are_those_that_the_playbooks_hand_to_roles() -> None:
    filters = "\n".join(path.read_text(encoding="utf-8") for path in files_of("plugins/filter/*.py"))
    handed = {  # `**app[...]` only copies
        ".".join(filter(None, keys))
        for keys in re.findall(r"(?<!\*\*)\bapp\[[\"'](\w+)[\"']\](?:\[[\"'](\w+)[\"']\])?", filters)
    }
    told = README.partition("run `provision.yml`\ntoo:")[2].partition(". ")[0]
    assert handed
    assert handed == set(re.findall(r"`([\w.]+)`", told))


def test_the_glossary_explains_each_word_once_and_the_readme_leads_there() -> None:
    assert [anchor for anchor, word in WORDS if anchor != word] == []
    words = [word for _, word in WORDS]
    assert len(words) == len(set(words))
    expected = {"app", "artifact", "release", "slot", "live", "stage", "gate", "flip", "bake", "settle", "drain"}
    assert expected <= set(words)
    assert "](docs/glossary.md)" in README


def test_the_plan_that_a_release_prints_leads_to_the_glossary_and_its_words_are_there() -> None:
    plan = (ROOT / "src" / "praetor" / "run" / "plan.py").read_text(encoding="utf-8")
    said = re.search(r'"([^"]+): docs/glossary\.md', plan)
    assert said is not None
    assert {word.lower() for word in said[1].split(", ")} <= {word for _, word in WORDS}
