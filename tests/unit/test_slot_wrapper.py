"""The program between an Emperor and a slot: gives the release its environment."""

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it runs as the app's user")

NASTY = {
    "NEWLINES": "one\ntwo\n\n",
    "ONLY_NEWLINES": "\n\n",
    "DOLLARS": "$HOME ${PATH} $(id) `id` \\n \\",
    "QUOTES": "it's \"quoted\" 'so'",
    "EQUALS": "a=b=c",
    "STAR": "* ? [a]",
    "EMPTY": "",
    "UMLAUT": "ä€",
    "DASH": "-n",
}
SHOW = """#!/usr/bin/python3
import json, os, sys
print(json.dumps({"env": dict(os.environ), "args": sys.argv[1:], "umask": os.umask(0)}))
"""


class Host:
    """A rendered wrapper and a release of an app whose user is www-data."""

    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        self.user = pwd.getpwnam("www-data")
        self.run, self.release = place / "run", place / "release"
        (self.run / self.user.pw_name).mkdir(parents=True)
        os.chown(self.run / self.user.pw_name, self.user.pw_uid, self.user.pw_gid)
        for name in ("env", "secrets", "venv/bin"):
            (self.release / name).mkdir(parents=True)
        self.put("venv/bin/uwsgi", SHOW, 0o755)
        self.put("vassal.ini", "[uwsgi]\n", 0o640)
        self.vassal = place / "api.1-a.1.ini"
        self.vassal.symlink_to(self.release / "vassal.ini")
        script = (ROOT / "roles/uwsgi_emperor/files/slot-wrapper").read_text(encoding="utf-8")
        self.wrapper = place / "slot-wrapper"
        self.wrapper.write_text(script.replace("/run/uwsgi/", f"{self.run}/"), encoding="utf-8")
        self.wrapper.chmod(0o755)

    def put(self, name: str, text: str, mode: int = 0o440) -> None:
        """Write a file of the release."""
        path = self.release / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        os.chown(path, 0, self.user.pw_gid)

    def start(self, user: int | None = None) -> subprocess.CompletedProcess[str]:
        """Start the slot as its app's Emperor does, or as another user."""
        uid = self.user.pw_uid if user is None else user
        return subprocess.run(
            [str(self.wrapper), "--ini", str(self.vassal)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LOGNAME": self.user.pw_name, "INVOCATION_ID": "1", "JOURNAL_STREAM": "8:1"},
            user=uid,
            group=uid,
            extra_groups=[],
        )

    def started(self) -> dict[str, Any]:
        """Start the slot; what its uWSGI saw."""
        done = self.start()
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def slot(place: Path) -> Host:
    """Return a slot that can be started."""
    return Host(place)


def test_every_value_arrives_as_it_was_written(slot: Host) -> None:
    for number, (name, value) in enumerate(NASTY.items()):
        slot.put(f"{('env', 'secrets')[number % 2]}/{name}", value)
    found = slot.started()["env"]
    assert {name: found.get(name) for name in NASTY} == NASTY


def test_a_slot_finds_nothing_else_of_ours(slot: Host) -> None:
    slot.put("env/APP_NAME", "api")
    found = slot.started()["env"]
    assert set(found) - {"PWD", "LC_CTYPE", "OLDPWD", "_", "SHLVL"} == {
        *("PATH", "HOME", "USER", "LANG"),
        *("APP_NAME", "PROMETHEUS_MULTIPROC_DIR"),
    }
    assert found["PATH"].startswith(f"{slot.release}/venv/bin:")


def test_a_release_without_variables_starts(slot: Host) -> None:
    assert slot.started()["env"]["PROMETHEUS_MULTIPROC_DIR"]


def test_nothing_of_a_release_runs_as_root(slot: Host) -> None:
    done = slot.start(user=0)
    assert done.returncode == 1
    assert "nothing of a release runs as root" in done.stderr
    assert done.stdout == ""


def test_what_a_slot_writes_is_not_for_everybody(slot: Host) -> None:
    assert slot.started()["umask"] == 0o027


def test_uwsgi_gets_the_emperors_words_and_the_place_of_the_release(slot: Host) -> None:
    assert slot.started()["args"] == ["--set-placeholder", f"release={slot.release}", "--ini", str(slot.vassal)]


def test_each_slot_has_a_directory_of_its_own_for_metrics(slot: Host) -> None:
    expected = slot.run / slot.user.pw_name / "api.1-a.1.metrics"
    for _ in range(2):
        assert slot.started()["env"]["PROMETHEUS_MULTIPROC_DIR"] == str(expected)
    assert expected.owner() == slot.user.pw_name
    assert expected.stat().st_mode & 0o027 == 0


def test_no_secret_is_in_an_argument_list(slot: Host) -> None:
    slot.put("secrets/TOKEN", "correct horse")
    found = slot.started()
    assert "correct horse" not in " ".join(found["args"])
    assert found["env"]["TOKEN"] == "correct horse"  # noqa: S105  not one


def test_a_vassal_that_points_nowhere_starts_nothing(slot: Host) -> None:
    (slot.release / "vassal.ini").unlink()
    done = slot.start()
    assert done.returncode != 0
    assert done.stdout == ""
