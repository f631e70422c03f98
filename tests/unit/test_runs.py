"""The playbooks of a release as Ansible runs them, on hosts that answer at once: what each host is asked, in which order, and what is not asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, imported

from praetor.documents import AppSurvey, Looked

HOSTS = [f"h{number:02}" for number in range(1, 13)]
APPS = """\
apps:
  - name: sample
    source: {{path: {path}}}
    wsgi: sample:app
    server_names: [sample.example.org]
    commands: {{migrate: ["python -m chores"], migrate_on: {migrate_on}}}
    release: {{bake_s: 0, batches: ["1", "5", "100%"]}}
"""


class World:
    """An inventory of hosts that answer at once, and what they were asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        hosts = "\n".join(f"    {host}: {{ansible_connection: at_once}}" for host in HOSTS)
        self.write("hosts.yml", f"app_hosts:\n  hosts:\n{hosts}\n")
        self.apps()

    def write(self, name: str, text: str) -> None:
        """Write a file of the inventory."""
        path = self.directory / "inventory" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def apps(self, migrate_on: str = "once") -> None:
        """Write the app."""
        path = ROOT / "molecule/releases/sample"
        self.write("group_vars/all/apps.yml", APPS.format(path=path, migrate_on=migrate_on))

    def run(
        self, playbook: str, *more: str, needed: bool = True, refuses: str = "", slow: str = ""
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run a playbook; what came of it, and the calls in their order."""
        calls = self.directory / "calls"
        calls.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "bench/connection"),
            "AT_ONCE_CALLS": str(calls),
            "AT_ONCE_NEEDED": str(int(needed)),
            "AT_ONCE_REFUSES": refuses,
            "AT_ONCE_SLOW": slow,
        }
        built = ["-e", f"release_cache={self.directory}/cache"] if playbook == "release" else []
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, f"playbooks/{playbook}.yml", "-i", str(self.directory / "inventory"), *built, *more]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        return done, calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return hosts that this controller knows: the first run asks for their Python."""
    made = World(tmp_path_factory.mktemp("world"))
    done, calls = made.run("release", needed=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(calls) == sorted([f"survey {host}" for host in HOSTS] * 2)
    return made


def phases(calls: list[str]) -> list[tuple[str, list[str]]]:
    """Return the calls by what was asked, in the order of what came first; the hosts sorted."""
    found: dict[str, list[str]] = {}
    for call in calls:
        what, host = call.split()
        found.setdefault(what, []).append(host)
    return [(what, sorted(hosts)) for what, hosts in found.items()]


def test_a_run_without_anything_to_do_asks_each_host_once(world: World) -> None:
    for playbook, more in (("release", []), ("release", ["--check"]), ("status", [])):
        done, calls = world.run(playbook, *more, needed=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert phases(calls) == [("survey", HOSTS)], playbook
    done, calls = world.run("rollback", "-e", "release=0-00000000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert phases(calls) == [("survey", HOSTS)]


def test_a_plan_asks_each_host_once_and_does_nothing(world: World) -> None:
    for playbook in ("release", "rollback"):
        done, calls = world.run(playbook, "--check")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "  h01, h02, h03, h04, h05 and 7 more: 0-00000000 -> " in done.stdout
        assert phases(calls) == [("survey", HOSTS)], playbook


def test_a_release_asks_each_host_five_times_in_phases_and_batches_with_the_canary_first(world: World) -> None:
    done, calls = world.run("release")
    assert done.returncode == 0, done.stdout + done.stderr
    every = [("survey", HOSTS), ("lock", ["h01"]), ("stage", HOSTS), ("migrate", ["h01"])]
    assert phases(calls) == [*every, ("gate", HOSTS), ("flip", HOSTS), ("settle", HOSTS)]
    # Each phase has ended on all hosts before the next begins.
    assert [call.split()[0] for call in calls] == [what for what, hosts in phases(calls) for _ in hosts]
    flips = [call.split()[1] for call in calls if call.startswith("flip")]
    assert [sorted(flips[:1]), sorted(flips[1:6]), sorted(flips[6:])] == [HOSTS[:1], HOSTS[1:6], HOSTS[6:]]
    assert "sample " in done.stdout
    assert "is live on h01, h02, h03, h04, h05 and 7 more." in done.stdout
    assert "Flip and bake on h02, h03 and 3 more" in done.stdout


def test_several_apps_travel_one_after_the_other_until_one_fails(world: World) -> None:
    head, _, entry = APPS.format(path=ROOT / "molecule/releases/sample", migrate_on="once").partition("\n")
    named = [
        entry.replace("name: sample", f"name: {name}").replace("sample.example", f"{name}.example")
        for name in ("one", "two", "three")
    ]
    world.write("group_vars/all/apps.yml", "\n".join([head, *named]))
    try:
        done, calls = world.run("release")
        failed, asked = world.run("release", refuses="gate h03")
    finally:
        world.apps()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [call.split()[0] for call in calls if call.endswith(" h05")] == [
        "survey",
        *["stage", "gate", "flip", "settle"] * 3,
    ]
    places = [done.stdout.index(f"  {phase} {app} ") for app in ("one", "two", "three") for phase in ("Lock", "Settle")]
    assert places == sorted(places)
    assert failed.returncode == 2
    assert [call for call in asked if call.startswith("lock")] == ["lock h01"], "the others have not begun"


def test_a_slow_host_is_waited_for_once_in_a_phase_and_named(world: World) -> None:
    done, calls = world.run("release", slow="gate h07 7")
    assert done.returncode == 0, done.stdout + done.stderr
    # Whatever a command takes there: no phase has a second one, and nothing is asked between phases.
    assert sorted(call for call in calls if call.endswith(" h07")) == sorted(
        f"{what} h07" for what in ("survey", "stage", "gate", "flip", "settle")
    )
    assert "s: live | Gate sample [h07]" in done.stdout


def test_a_rollback_goes_through_gate_flip_and_settle(world: World) -> None:
    done, calls = world.run("rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [what for what, _ in phases(calls)] == ["survey", "gate", "flip", "settle"]
    assert {tuple(hosts) for _, hosts in phases(calls)} == {tuple(HOSTS)}


def test_each_host_migrates_where_storage_is_its_own(world: World) -> None:
    world.apps("each")
    try:
        _, calls = world.run("release")
    finally:
        world.apps()
    assert ("migrate", HOSTS) in phases(calls)


@pytest.mark.parametrize(
    ("refuses", "asked"),
    [
        ("lock h01", ["survey", "lock", "settle"]),
        ("stage h07", ["survey", "lock", "stage", "settle"]),
        ("migrate h01", ["survey", "lock", "stage", "migrate", "settle"]),
        ("gate h12", ["survey", "lock", "stage", "migrate", "gate", "settle"]),
    ],
)
def test_a_failure_before_the_flip_ends_the_run_and_flips_nothing(world: World, refuses: str, asked: list[str]) -> None:
    done, calls = world.run("release", refuses=refuses)
    assert done.returncode == 2
    assert [what for what, _ in phases(calls)] == asked
    assert ("settle", HOSTS) in phases(calls), "every host is put back"
    phase, host = refuses.split()
    assert f"{phase} failed on {host}; the release has ended, and no host serves it" in done.stdout
    assert "\nh01, h02, h03, h04, h05 and 7 more: serving 1-11111111\n" in done.stdout


def test_a_canary_that_fails_is_the_only_host_that_flips(world: World) -> None:
    done, calls = world.run("release", refuses="flip h01")
    assert done.returncode == 2
    assert ("flip", ["h01"]) in phases(calls)
    assert ("settle", HOSTS) in phases(calls)


def test_a_release_that_is_live_and_cannot_be_settled_is_told_as_a_failure(world: World) -> None:
    events, hooks = world.directory / "events", world.directory / "hooks"
    world.write(
        "group_vars/all/notices.yml",
        f"release_notify: [{{command: [tee, -a, {events}], events: [failure, success]}}]\n"
        f"release_hooks: {{failure: [[tee, {hooks}]], after_release: [['false']]}}\n",
    )
    try:
        done, calls = world.run("release", refuses="settle h03")
    finally:
        (world.directory / "inventory/group_vars/all/notices.yml").unlink()
    assert done.returncode == 2
    assert phases(calls)[-1] == ("settle", HOSTS), "none is put back"
    [event] = map(json.loads, events.read_text(encoding="utf-8").splitlines())
    assert (event["event"], event["reason"]) == (
        "failure",
        "it is live on all hosts, but settle failed on h03: refused",
    )
    assert hooks.exists()
    assert "live on all hosts, but settle failed on h03. Fix the cause and run the same command" in done.stdout


@pytest.mark.parametrize("playbook", ["refresh", "rollback"])
def test_hooks_run_around_what_starts_releases_again(world: World, playbook: str) -> None:
    before = world.directory / f"before-{playbook}"
    world.write(
        "group_vars/all/notices.yml",
        f"release_hooks: {{before_{playbook}: [[touch, {before}]], after_{playbook}: [['false', after]]}}\n",
    )
    try:
        done, calls = world.run(playbook)
    finally:
        (world.directory / "inventory/group_vars/all/notices.yml").unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.exists()
    assert f"hook after_{playbook}: 'false after' failed" in done.stdout + done.stderr
    assert ("settle", HOSTS) in phases(calls)


@pytest.mark.parametrize("playbook", ["build", "release"])
def test_hooks_run_around_a_build_and_one_before_it_ends_the_run(world: World, playbook: str) -> None:
    before, after = world.directory / f"before-{playbook}", world.directory / f"after-{playbook}"
    cache = ("-e", f"release_cache={world.directory}/cache") if playbook == "build" else ()
    notices = "group_vars/all/notices.yml"
    try:
        world.write(
            notices,
            f"release_hooks: {{before_build: [[touch, {before}]], after_build: [[touch, {after}], ['false']]}}\n",
        )
        done, _ = world.run(playbook, *cache, needed=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert before.exists()
        assert after.exists()
        assert "hook after_build: 'false' failed with exit status 1. The run goes on." in done.stdout + done.stderr
        after.unlink()
        world.write(
            notices,
            f"release_hooks: {{before_build: [[sh, -c, 'echo no; exit 3']], after_build: [[touch, {after}]]}}\n",
        )
        done, calls = world.run(playbook, *cache, needed=False)
        assert (done.returncode, calls, after.exists()) == (2, [], False)
        assert "failed with exit status 3. No host was changed.\n" in done.stdout
        if playbook == "release":  # nothing is built
            done, _ = world.run(playbook, "-e", "app=sample", "-e", "release=0-00000000", needed=False)
            assert "hook before_build" not in done.stdout + done.stderr
    finally:
        (world.directory / "inventory" / notices).unlink()


def test_simulated_hosts_say_all_that_hosts_say() -> None:
    simulated = imported("bench/connection/at_once.py")
    asked = {"work": "survey", "params": {"apps": {"api": "a.example"}}}
    assert set(simulated.answer(asked, "h01")["apps"]["api"]) >= AppSurvey.__required_keys__ | Looked.__optional_keys__
