"""Words that hide what is meant do not come back: neither into pages nor into messages and comments."""

import re
import subprocess

import pytest
from project import ROOT

# What to say instead. A phrase may go on in the next line of a comment.
GAP = r"[\s#*]+"
RETIRED = {
    "beside": "next to, besides, or: excluded",
    "anew": "again",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "mending": "fixing",
    "of its own": "its own, or: a separate",
    "of their own": "their own, or: separate",
    "what of": "which part of",
    "wrote down": "logged",
    "writes down": "logs",
    "written down": "logged",
}
# True uses: where the phrase stands for what it says.
ALLOWED = ("of its own accord", "what of it")
# Read by people, and written here: not licences, locks, pictures, data.
READ = re.compile(r"\.(md|py|ya?ml|j2|in|toml|cfg|conf|sh|service|timer|rules|html|lib)$|(^|/)(Makefile|[a-z0-9_-]+)$")
WRITTEN_ELSEWHERE = ("LICENSE", "tests/static/test_words.py")


def files() -> list[str]:
    """Return the tracked files that people read."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if READ.search(name) and not name.startswith(WRITTEN_ELSEWHERE)]
    return [name for name in names if (ROOT / name).is_file()]


FILES = files()
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}


def pattern(phrase: str) -> re.Pattern[str]:
    """Return a phrase as it may stand over the end of a line."""
    return re.compile(rf"(?<![\w-]){GAP.join(map(re.escape, phrase.split()))}(?![\w-])", re.IGNORECASE)


def found(phrase: str, text: str) -> list[int]:
    """Return the lines where a phrase is used, but for its true uses."""
    true = {use.start() for allowed in ALLOWED for use in pattern(allowed).finditer(text)}
    return [text.count("\n", 0, use.start()) + 1 for use in pattern(phrase).finditer(text) if use.start() not in true]


def test_what_people_read_is_looked_at() -> None:
    assert len(FILES) > 300
    for name in ("README.md", "Makefile", "roles/nginx/templates/nginx.conf.j2", "playbooks/release.yml"):
        assert name in FILES
    assert found("of its own", "# a process of\n    # its own, beside\n") == [1]
    assert found("beside", "# a process of\n    # its own, beside\nbesides") == [2]
    assert found("of its own", "it ends of its own accord") == []


@pytest.mark.parametrize("phrase", RETIRED)
def test_a_retired_word_does_not_come_back(phrase: str) -> None:
    uses = [f"{name}:{line}" for name, text in TEXTS.items() for line in found(phrase, text)]
    assert uses == [], f"write instead: {RETIRED[phrase]}"
