"""The offline audit: what is affected is named with its fix, and a list that is old or empty is no proof."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT

SCRIPT = ROOT / "requirements" / "advisories.py"


def entry(**changes: Any) -> dict[str, Any]:
    """Return an advisory about versions 1.0 to 1.4 and 2.0 to 2.2 of a package that nobody has."""
    events = [{"introduced": "1.0"}, {"fixed": "1.4"}, {"introduced": "2.0"}, {"fixed": "2.2"}]
    return {
        "id": "TEST-2026-1",
        "aliases": ["GHSA-x", "CVE-2026-0"],
        "modified": datetime.now(UTC).isoformat(),
        "affected": [
            {
                "package": {"name": "Some.Thing", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
        ],
        **changes,
    }


def audit(place: Path, pinned: str, advisory: dict[str, Any], *options: str) -> tuple[int, str]:
    """Run the audit of one pinned package against one advisory."""
    (place / "database" / "vulns").mkdir(parents=True, exist_ok=True)
    (place / "database" / "vulns" / "one.yaml").write_text(yaml.safe_dump(advisory), encoding="utf-8")
    lock = place / "lock.txt"
    lock.write_text(f"{pinned} \\\n    --hash=sha256:00\n", encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(place / "database"), str(lock), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("version", "fix"),
    [("0.9", None), ("1.0", "1.4"), ("1.3.9", "1.4"), ("1.4", None), ("1.9", None), ("2.1", "2.2"), ("2.2", None)],
)
def test_a_version_in_a_range_is_found_with_its_fix(tmp_path: Path, version: str, fix: str | None) -> None:
    status, said = audit(tmp_path, f"some-thing=={version} ; python_version >= '3'", entry())
    assert status == (1 if fix else 0), said
    assert fix is None or f"some-thing {version}: TEST-2026-1 CVE-2026-0, fixed in {fix}" in said


def test_a_list_that_is_old_is_no_proof(tmp_path: Path) -> None:
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    status, said = audit(tmp_path, "some-thing==2.2", entry(modified=old))
    assert status == 2
    assert "older than 30 days" in said


def test_no_list_is_no_proof(tmp_path: Path) -> None:
    status, said = audit(tmp_path, "some-thing==2.2", {"id": "nothing"})
    assert (status, "found no advisories" in said) == (2, True)


def test_what_was_withdrawn_or_accepted_does_not_count(tmp_path: Path) -> None:
    other = tmp_path / "database" / "vulns" / "two.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(entry(affected=[])), encoding="utf-8")
    assert audit(tmp_path, "some-thing==1.0", entry(withdrawn="2026-01-01T00:00:00Z"))[0] == 0
    assert audit(tmp_path, "some-thing==1.0", entry())[0] == 1
    assert audit(tmp_path, "some-thing==1.0", entry(), "--accept", "TEST-2026-1")[0] == 0
