"""A program's two outputs are one text, of which the end is kept; how it failed is told in one way, wherever it runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from praetor.host import output

ECHO = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); print('out again')"


def test_both_outputs_are_one_text_in_their_order(tmp_path: Path) -> None:
    log = io.StringIO()
    ended = output.run([sys.executable, "-c", ECHO], log=log)
    assert ended.ok
    assert ended.said == log.getvalue() == "out\nerr\nout again\n"
    assert output.run(["pwd"], cwd=tmp_path).said == f"{tmp_path}\n"
    assert output.run(["/usr/bin/env"], env={"A": "1"}).said == "A=1\n"


def test_it_reads_nothing_and_any_bytes_become_text() -> None:
    assert output.run(["sh", "-c", "cat; printf '\\377\\n'"]).said == "\ufffd\n"


@pytest.mark.parametrize("letters", [99, 100, 101, 200, 201, 5000])
def test_the_end_is_kept_and_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch, letters: int) -> None:
    monkeypatch.setattr(output, "KEPT", 100)
    monkeypatch.setattr(output, "_PIECE", 33)
    log = io.StringIO()
    ended = output.run([sys.executable, "-c", f"print('a' * {letters - 1}, end='b')"], log=log)
    assert log.getvalue() == "a" * (letters - 1) + "b"
    assert ended.printed == log.getvalue()[-100:]
    note = f"(the first {letters - 100} characters are left out)\n" if letters > 100 else ""
    assert ended.said == note + ended.printed


@pytest.mark.parametrize(
    ("script", "timeout_s", "failure"),
    [
        ("exit 4", None, "failed with exit status 4"),
        ("exit 4", 600, "failed with exit status 4"),
        ("kill -9 $$", None, "was ended by signal 9 (Killed)"),
        ("(sleep 60; touch waited-for) & echo; wait", 0.2, "did not end within 0 s and was killed"),
        ("exec >&- 2>&-; sleep 60; touch waited-for", 0.2, "did not end within 0 s and was killed"),
    ],
)
def test_how_it_failed_is_told(tmp_path: Path, script: str, timeout_s: float | None, failure: str) -> None:
    ended = output.run(["sh", "-c", script], cwd=tmp_path, timeout_s=timeout_s)
    assert not ended.ok
    assert ended.failure == f"'sh -c {script}' {failure}"
    # A child that lived on would have held the output open.
    assert not (tmp_path / "waited-for").exists()


def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        output.run(["/nowhere"], timeout_s=9)
