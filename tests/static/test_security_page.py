"""The security page claims nothing that no test tries to break."""

import re

from project import ROOT, files_of

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_the_security_page_names_exists() -> None:
    sources = files_of("tests/**/test_*.py", "molecule/**/test_*.py", "app/tests/test_*.py")
    there = {
        name
        for path in sources
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    assert named - there == set()


def test_every_claim_of_the_security_page_names_a_test() -> None:
    table = PAGE.partition("## What is protected")[2].partition("\n## ")[0]
    claims = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(claims) > 15
    assert [claim for claim in claims if not re.search(r"\| `test_\w+`(, `test_\w+`)* \|$", claim)] == []
