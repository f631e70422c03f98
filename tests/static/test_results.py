"""What plugins put into results for one another is declared: `praetor.documents`. A key that is misspelt would be lost without a word."""

import ast
from pathlib import Path

import pytest
from project import ROOT

from praetor.documents import FailedPhase

# Of Ansible itself: it shows nothing of such a result.
ANSIBLES = {"_ansible_no_log"}
DECLARED = {key for key in FailedPhase.__annotations__ if key.startswith("_ansible")}


def hidden_keys(source: str) -> set[str]:
    """The keys of results in a source that Ansible does not print."""
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and text.startswith("_ansible_")}


def undeclared(paths: list[Path]) -> dict[str, set[str]]:
    """Such keys that nobody declares, by file."""
    found = {str(path): hidden_keys(path.read_text(encoding="utf-8")) - ANSIBLES - DECLARED for path in paths}
    return {name: keys for name, keys in found.items() if keys}


def test_every_hidden_key_of_a_result_is_declared() -> None:
    paths = [
        path
        for folder in ("plugins/action", "plugins/callback", "src/praetor")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(DECLARED) == 1
    assert undeclared(paths) == {}


@pytest.mark.parametrize("key", ["_ansible_praetor_stroy", "_ansible_story"])
def test_an_action_whose_key_is_misspelt_is_seen(tmp_path: Path, key: str) -> None:
    action = (ROOT / "src/praetor/run/failures.py").read_text(encoding="utf-8")
    misspelt = tmp_path / "app_phase.py"
    misspelt.write_text(action.replace("_ansible_praetor_story", key), encoding="utf-8")
    assert undeclared([misspelt]) == {str(misspelt): {key}}


def test_the_story_is_put_in_and_taken_out_in_one_place() -> None:
    paths = [path for folder in ("plugins", "src/praetor") for path in (ROOT / folder).rglob("*.py")]
    users = [path.name for path in paths if DECLARED & hidden_keys(path.read_text(encoding="utf-8"))]
    assert users == ["failures.py"]
