"""What the inventory check promises about the environment of an app, held against the code that makes it."""

import re

from project import ROOT

from praetor.inventory.model import RESERVED_VARIABLES, WRAPPER_VARIABLES

WRAPPER = ROOT / "roles" / "uwsgi_emperor" / "files" / "slot-wrapper"
RUN = ROOT / "src" / "praetor_slot" / "run.py"
BUILD = ROOT / "plugins" / "action" / "app_build.py"


def test_every_variable_that_a_release_sets_is_reserved() -> None:
    built = set(re.findall(r'^\s+"([A-Z_]+)": ', BUILD.read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for line in WRAPPER.read_text(encoding="utf-8").splitlines() if line.startswith("export ")]
    exported = set(re.findall(r"\b([A-Z_]+)=", " ".join(lines)))
    started = set(re.findall(r'"(APP_\w+)": ', RUN.read_text(encoding="utf-8")))
    assert built | started | exported - {"PATH", "USER", "LANG"} == RESERVED_VARIABLES  # an app may replace these


def test_no_variable_of_an_app_can_replace_one_of_the_wrapper() -> None:
    text = WRAPPER.read_text(encoding="utf-8")
    own = set(re.findall(r"^\s*([a-z]+)=", text, re.MULTILINE)) | set(re.findall(r"\bfor ([a-z]+) in", text))
    assert own
    assert own - WRAPPER_VARIABLES == set()
