"""A file on trial: what is confirmed stays, what is not is undone, and nothing happens without a timer."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from praetor.host import trial_file
from praetor.host.layout import ReleaseError


class Host:
    """A host without systemd: it keeps the timer, and runs every other command for real."""

    def __init__(self, module: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.place = module, place
        self.armed, self.can_arm = False, True
        self.effect, self.dest = place / "effect", place / "etc" / "rules"
        monkeypatch.setattr(module, "_STATE", place / "state")
        monkeypatch.setattr(module, "_run", self.run)

    def run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """Answer for systemd."""
        if argv[0] == "systemd-run":
            self.armed = self.can_arm
        elif argv[:2] == ["systemctl", "is-active"]:
            return subprocess.CompletedProcess(argv, 0 if self.armed else 3, "", "")
        elif argv[:2] == ["systemctl", "stop"]:
            self.armed = False
        else:
            return subprocess.run(argv, capture_output=True, text=True, check=False)
        return subprocess.CompletedProcess(argv, 0, "", "")

    def trial(self, text: str, **changes: Any) -> Any:
        """Return the trial of a text, which comes into effect by being copied and is wrong when it says so."""
        effect = str(self.effect)
        params = {
            "name": "test",
            "dest": str(self.dest),
            "content": text,
            "check": ["sh", "-c", "! grep -q wrong %s"],
            "apply": ["cp", "%s", effect],
            "in_effect": ["cat", effect],
            "save": ["cat", effect],
            "undo": [["cp", "%s", effect]],
            "undo_s": 40,
            **changes,
        }
        return self.module.Trial(params)

    def fire(self) -> None:
        """Let the time pass."""
        assert self.armed
        self.armed = False
        subprocess.run(["sh", str(self.place / "state" / "test" / "undo")], check=True)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host with old rules that somebody has made by hand."""
    found = Host(trial_file, tmp_path, monkeypatch)
    found.effect.write_text("old")
    return found


def keep(host: Host, text: str) -> None:
    """Bring a text into effect and confirm it."""
    assert host.trial(text).check() == ""
    assert host.trial(text).begin() == ""
    assert host.trial(text).confirm() == ""


def test_what_is_confirmed_is_installed_and_current(host: Host) -> None:
    keep(host, "new")
    assert (host.dest.read_text(), host.effect.read_text(), host.armed) == ("new", "new", False)
    assert host.trial("new").is_current()
    assert not host.trial("newer").is_current()


def test_nothing_is_installed_before_it_is_confirmed(host: Host) -> None:
    host.trial("new").check()
    assert host.trial("new").begin() == ""
    assert host.effect.read_text() == "new"
    assert not host.dest.exists()


def test_what_nobody_confirms_is_undone_and_can_no_longer_be_confirmed(host: Host) -> None:
    keep(host, "first")
    host.trial("second").check()
    assert host.trial("second").begin() == ""
    host.fire()
    assert (host.dest.read_text(), host.effect.read_text()) == ("first", "first")
    assert "undone" in host.trial("second").confirm()
    assert host.dest.read_text() == "first"


def test_a_file_that_is_tried_in_its_place_is_taken_away_again_where_there_was_none(host: Host) -> None:
    in_place = {"apply": ["cp", str(host.dest), str(host.effect)]}
    host.trial("new", **in_place).check()
    assert host.trial("new", **in_place).begin() == ""
    assert host.dest.read_text() == "new"
    host.fire()
    assert not host.dest.exists()
    assert host.effect.read_text() == "old"


def test_a_command_that_fails_is_undone_at_once(host: Host) -> None:
    broken = {"apply": ["sh", "-c", f"cp %s {host.effect}; echo too much >&2; exit 1"]}
    host.trial("new").check()
    assert "too much" in host.trial("new", **broken).begin()
    assert (host.effect.read_text(), host.armed) == ("old", False)


def test_nothing_is_applied_when_the_timer_does_not_start(host: Host) -> None:
    host.can_arm = False
    host.trial("new").check()
    assert "timer" in host.trial("new").begin()
    assert host.effect.read_text() == "old"


def test_a_wrong_file_is_found_before_anything_is_done(host: Host) -> None:
    assert "grep" in host.trial("wrong").check()
    assert (host.effect.read_text(), host.armed) == ("old", False)


def test_the_run_after_a_killed_one_comes_back_to_what_was_before_both(host: Host) -> None:
    keep(host, "first")
    host.trial("second").check()
    host.trial("second").begin()
    host.trial("third").check()
    host.trial("third").begin()
    host.fire()
    assert host.effect.read_text() == "first"


def test_an_effect_that_somebody_changed_is_not_current(host: Host) -> None:
    keep(host, "new")
    host.effect.write_text("open to all")
    assert not host.trial("new").is_current()


def test_a_file_that_somebody_changed_is_not_current(host: Host) -> None:
    keep(host, "new")
    host.dest.write_text("open to all")
    assert not host.trial("new").is_current()


def asked(host: Host, text: str, **changes: Any) -> dict[str, Any]:
    """What a step says of a text."""
    params = {("validate" if key == "check" else key): value for key, value in host.trial(text).params.items()}
    return trial_file.work(**{"check": False, **params, **changes})


def test_a_step_says_until_when_it_must_be_confirmed(host: Host) -> None:
    found = asked(host, "new")
    assert (found["changed"], found["undone_after_s"], host.armed) == (True, 40, True)
    assert asked(host, "new", confirm=True) == {"changed": True}
    assert asked(host, "new") == {"changed": False}
    with pytest.raises(ReleaseError, match="nobody confirmed in time"):
        asked(host, "new", confirm=True)


def test_a_dry_run_shows_what_would_come_into_effect_and_changes_nothing(host: Host) -> None:
    found = asked(host, "new", check=True)
    assert (found["changed"], found["diff"]["after"]) == (True, "new")
    assert (host.effect.read_text(), host.armed, (host.place / "state").exists()) == ("old", False, False)
    with pytest.raises(ReleaseError, match="would not be correct; nothing was changed"):
        asked(host, "wrong", check=True)
