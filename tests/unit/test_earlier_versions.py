"""What earlier versions wrote on hosts is read, repaired and gone on with: their files, word for word."""

import json

import pytest
from fakes import FakeEmperor, a_run, put_release, put_slot

from praetor.host import journal as journals
from praetor.host import sandbox
from praetor.host.gate import Health, wait_until
from praetor.host.journal import phase
from praetor.host.layout import AppHost, Slot
from praetor.host.settle import abandon, repair
from praetor.host.stage import files_of
from praetor.host.survey import survey
from praetor.run import notes, tables
from praetor.run.plan import differences

# Before 1.0.0: wheels named their places on the controller, and there was no tree, no sandbox and no slice.
MANIFEST = """{
 "app": "api", "artifact": "5ee4", "built_at": "2026-03-01T10:00:00Z", "built_by": "ann@desk", "commit": "c0ffee", "dirty": false, "id": "0.9-aaaaaaaa",
 "python": ["cp311"], "secrets": {"TOKEN": "1f0a"}, "source": "app", "tree": null, "version": "0.9",
 "settings": {"config": {}, "env": {}, "health": {"path": "/health/ready", "status": 200, "timeout_s": 30}, "profile": "prod",
  "limits": {"body_mb": 1, "memory_mb": 512, "request_s": 30}, "server_names": ["api.example"], "threads": 2, "workers": "auto", "wsgi": "api.wsgi:app"},
 "wheels": {"cp311": [{"file": "a-1-py3-none-any.whl", "name": "a", "path": "/home/ann/.cache/praetor/wheels/aa/a-1-py3-none-any.whl", "sha256": "aa", "version": "1"}]}
}
"""
RUN = a_run("20260301T100000Z-abcdef", why="faster")
# A controller that was killed while it watched.
JOURNAL = {
    "run": RUN,
    "since": 1772359200.0,
    "interrupted": None,
    "phase": "flip",
    "expires": 1772360100.0,
    "candidate": "api.2-b.2",
    "previous": "api.1-a.1",
    "drain": {"slot": "api.1-a.1", "probed": True, "requests": 3, "since": 100.0},
}
HISTORY = """{"ts": "2026-03-01T09:00:00Z", "action": "release", "from": null, "to": "1-a", "result": "ok", "by": "ann@desk", "run": "r0", "why": "first", "duration_s": 3.1}
{"ts": "2026-03-01T09:30:00Z", "action": "migrate", "to": "2-b", "run": "r1", "result": "failed", "output": "no such table"}
{"ts": "2026-03-01T09:31:00Z", "action": "release", "from": "1-a", "to": "2-b", "result": "failed", "reason": "migrate failed on app1", "by": "ann@desk", "run": "r1", "why": "", "duration_s": 4.0}
{"ts": "2026-03-01T09:40:00Z", "action": "rollback", "from": "1-a", "to": "1-a", "result": "ok", "bake": {"flipped": true, "served": 4}, "by": "ann@desk", "run": "r2", "why": "", "duration_s": 1.0}
"""


@pytest.fixture
def earlier(host: AppHost) -> AppHost:
    """Return a host with two releases and the files of an interrupted run."""
    for number, release in enumerate(("1-a", "2-b"), start=1):
        put_release(host, release)
        put_slot(host, release, number)
    host.flip(Slot("api", "1-a", 1))
    host.flip(Slot("api", "2-b", 2))
    host.history.write_text(HISTORY, encoding="utf-8")
    host.run_file.write_text(json.dumps(JOURNAL), encoding="utf-8")
    host.bad_file.write_text('{"0-z": {"reason": "5xx", "ts": "2026-02-01T00:00:00Z"}}\n', encoding="utf-8")
    return host


def test_an_interrupted_run_of_an_earlier_version_is_taken_over(earlier: AppHost, emperor: FakeEmperor) -> None:
    assert wait_until(lambda: len(emperor.slots) == 2 and earlier.socket(Slot("api", "1-a", 1)).exists(), 60)
    with phase(earlier, a_run("r9"), "lock", RUN["id"], begins=True) as journal:
        done = repair(earlier, journal, 2)
    assert done[0] == "took over from an interrupted release by ann@desk (phase 'flip')"
    assert "flipped back to 1-a: the bake of 2-b was not finished" in done
    assert earlier.live() == Slot("api", "1-a", 1)


def test_a_run_that_an_earlier_version_began_is_undone_by_this_one(earlier: AppHost, emperor: FakeEmperor) -> None:
    assert emperor
    with phase(earlier, a_run(RUN["id"]), "settle") as journal:
        abandon(earlier, journal, "2-b", "gone", 2)
    last = journals.history(earlier)[-1]
    assert (last["result"], last["reason"], last["why"], last["by"]) == ("failed", "gone", "faster", "ann@desk")
    assert not earlier.run_file.exists()


def test_histories_and_marks_of_earlier_versions_say_what_they_said(earlier: AppHost) -> None:
    assert (journals.last_settled(earlier), journals.before(earlier, "2-b")) == ("1-a", None)
    found = survey(earlier)
    found["history"] = journals.history(earlier)
    rows = tables.history({"app1": {"apps": {"api": found}}})
    assert [(row["action"], row["result"], row["why"], row["reason"]) for row in rows] == [
        ("release", "ok", "first", ""),
        ("migrate", "failed", "", ""),
        ("release", "failed", "", "migrate failed on app1"),
        ("rollback", "ok", "", ""),
    ]
    assert found["bad"]["0-z"]["reason"] == "5xx"
    assert any("locked by ann@desk in phase flip" in line for line in notes.notes({"app1": {"apps": {"api": found}}}))


def test_a_manifest_of_an_earlier_version_is_a_release_like_any_other(host: AppHost) -> None:
    put_release(host, "0.9-aaaaaaaa")
    (host.release_dir("0.9-aaaaaaaa") / "release.json").write_text(MANIFEST, encoding="utf-8")
    manifest, new = host.manifest("0.9-aaaaaaaa"), put_release(host, "1-a")
    assert manifest
    assert Health.of(manifest, "x").warmup_s == 5
    assert sandbox.directives(manifest["settings"].get("sandbox")) == ""
    assert "MemoryMax" not in sandbox.described("api", [manifest["settings"]["limits"]])
    assert [entry["sha256"] for entry in files_of(manifest, "cp311")] == ["aa"]
    assert "package a removed (was 1 (aa))" in differences(manifest, new, "cp311")
    assert "settings" not in "".join(differences(manifest, manifest, "cp311"))
