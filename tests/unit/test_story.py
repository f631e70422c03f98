"""What an operator reads while a playbook runs: the story itself, and Ansible's events told as one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, imported

from praetor.run.story import WIDTH, Counts, Status, Story, messages, reason


class Told:
    """A story whose clock is turned by hand."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.story = Story(lambda text, _colour: self.lines.extend(text.split("\n")), lambda: self.now)

    def step(self, name: str, statuses: dict[str, Status], seconds: float = 1, **more: Any) -> None:
        self.story.task(name, **more)
        self.now += seconds
        for host, status in statuses.items():
            self.story.result(host, status)


@pytest.fixture
def told() -> Told:
    return Told()


def counts(**hosts: tuple[int, int, int]) -> dict[str, Counts]:
    return {host: Counts(ok, changed, 0, failed) for host, (ok, changed, failed) in hosts.items()}


def test_a_release_is_a_line_a_phase_and_ends_with_what_is_live_and_how_to_undo_it(told: Told) -> None:
    told.story.begin(ROOT / "playbooks" / "release.yml", ["inventories/lab"], dry=False)
    told.story.play("Release", ["app1", "app2"])
    told.step("Read the passwords of the apps' databases", {"app1": "skipped"})
    told.step("Know the Pythons to build for", {"app1": "ok", "app2": "ok"})
    told.step("Build on the controller, once for all hosts", {"app1": "ok"}, 2.5, phase=True)
    told.story.was_live("api", "1.0-bbbb")
    told.story.travels("api", "1.1-aaaa")
    told.step("stage | Stage api", {"app1": "changed", "app2": "changed"}, phase=True)
    told.step("settle | Settle api", {"app1": "changed", "app2": "changed"}, phase=True)
    for host in ("app2", "app1"):
        told.story.settled("api", host)
    told.story.end(counts(app1=(5, 2, 0), app2=(3, 2, 0)))
    assert [re.sub(r" {2,}", "  ", line) for line in told.lines] == [
        "playbooks/release.yml -i inventories/lab",
        "",
        "Release  app1  app2",
        "  Build on the controller, once for all hosts  ok  2.5 s",
        "  Stage api  changed  changed  1.0 s",
        "  Settle api  changed  changed  1.0 s",
        "",
        "app1  ok=5 changed=2",
        "app2  ok=3 changed=2",
        "api 1.1-aaaa is live on app1, app2.",
        "Undo: ansible-playbook playbooks/rollback.yml -i inventories/lab -e app=api -e release=1.0-bbbb",
        "It took 6 s.",
    ]
    # Columns stand under their hosts.
    at = told.lines[2].index("app2")
    assert told.lines[4][at:].startswith("changed")


def test_the_tasks_of_a_role_are_one_step_that_shows_the_worst_of_each_host(told: Told) -> None:
    told.story.play("Provision", ["app1", "app2"])
    told.step("Install it", {"app1": "ok", "app2": "ok"}, role="nginx")
    told.step("Write its settings", {"app1": "changed", "app2": "ok"}, role="nginx")
    told.step("Start it", {"app1": "ok", "app2": "ok"}, role="nginx")
    told.step("Install it", {"app1": "ok"}, role="haproxy")
    told.story.flush()
    shown = [line.split() for line in told.lines if line]
    assert shown == [
        ["Provision", "app1", "app2"],
        ["nginx", "changed", "ok", "3.0", "s"],
        ["haproxy", "ok", "1.0", "s"],
    ]


def test_what_is_no_step_of_a_run_is_said_when_something_came_of_it_or_it_took_long(told: Told) -> None:
    told.story.play("Check the apps", ["app1"])
    told.step("Check", {"app1": "ok"}, 4.9)
    told.step("Wait", {"app1": "ok"}, 5)
    told.step("Write", {"app1": "changed"}, 0.1)
    told.step("Leave out", {"app1": "skipped"}, 9, phase=True)
    told.story.flush()
    assert [line.split()[0] for line in told.lines if line] == ["Check", "Wait", "Write"]
    assert told.lines[1].split() == ["Check", "the", "apps", "app1"]


@pytest.mark.parametrize("number", [4, 40])
def test_many_hosts_are_counted_and_a_line_stays_within_80_columns(told: Told, number: int) -> None:
    hosts = [f"app{each:02}.example.org" for each in range(number)]
    told.story.play("Release", hosts)
    told.step("gate | Gate shop", dict.fromkeys(hosts, "changed"), phase=True)
    flipped: dict[str, Status] = {host: "failed" if host == hosts[0] else "ok" for host in hosts}
    told.step(f"flip | Flip and bake on {', '.join(hosts)}", flipped, phase=True)
    told.story.end({host: Counts(3, 1, 0, int(host == hosts[0])) for host in hosts})
    assert max(map(len, told.lines)) <= WIDTH
    assert any(f"{number} changed" in line for line in told.lines)
    assert any(f"1 failed ({hosts[0]}), {number - 1} ok" in line for line in told.lines)
    if number > 8:
        assert f"{number - 1} hosts" in "\n".join(told.lines)


def test_what_several_hosts_say_is_said_once_with_their_names(told: Told) -> None:
    told.story.play("Release", ["app1", "app2", "app3"])
    told.story.task("Gate", phase=True)
    for host in ("app1", "app3"):
        told.story.error(host, "no answer within 30 s\nin playbooks/tasks/live.yml:4")
    told.story.result("app2", "ok")
    told.story.task("Gate the other", phase=True)
    told.story.error("app2", "no answer within 30 s\nin playbooks/tasks/live.yml:4")
    told.story.end(counts(app1=(0, 0, 1)))
    text = "\n".join(told.lines)
    assert text.count("no answer within 30 s") == 1
    assert "    app1, app3: no answer within 30 s\n    in playbooks/tasks/live.yml:4" in text
    assert "It failed after" in told.lines[-1]


@pytest.mark.parametrize("report", ["told", ""])
def test_what_a_rescue_deals_with_is_told_by_it_or_at_the_end(told: Told, report: str) -> None:
    told.story.play("Release", ["app1"])
    told.story.task("Gate", phase=True)
    told.story.error("app1", "gate failed", rescued=True)
    told.story.task("Say what happened")
    told.story.reported = bool(report)
    told.story.error("app1", "" if report else "it did not come back")
    told.story.end(counts(app1=(0, 0, 1)))
    assert ("before that, app1: gate failed" in "\n".join(told.lines)) is not bool(report)
    told.lines.clear()
    well = Told()
    well.story.task("Gate", phase=True)
    well.story.error("app1", "gate failed", rescued=True)
    well.story.end(counts(app1=(1, 0, 0)))
    assert "gate failed" not in "\n".join(well.lines)


@pytest.mark.parametrize("before", [{"1.0", "0.9"}, {"1.1"}, {""}])
def test_no_way_back_is_promised_where_there_is_not_one(told: Told, before: set[str]) -> None:
    for release in before:
        told.story.was_live("api", release)
    told.story.travels("api", "1.1")
    told.story.settled("api", "app1")
    told.story.end(counts(app1=(1, 0, 0)))
    assert "api 1.1 is live on app1." in told.lines
    assert not [line for line in told.lines if "Undo" in line]


def test_a_run_without_work_says_so(told: Told) -> None:
    told.story.was_live("api", "1.1")
    told.story.unneeded = True
    told.story.end(counts(app1=(1, 0, 0)))
    assert "api 1.1 was live already: there was nothing to do." in told.lines


def test_the_report_of_a_failed_run_is_no_step(told: Told) -> None:
    told.story.play("Release", ["app1"])
    told.story.task("Say what happened", phase=True)
    told.story.error("app1", "")
    told.story.flush()
    assert told.lines == []


def test_a_failed_run_says_nothing_of_what_is_live(told: Told) -> None:
    told.story.travels("api", "1.1")
    told.story.settled("api", "app1")
    told.story.end(counts(app1=(1, 0, 1)))
    assert not [line for line in told.lines if "live" in line]


def test_a_reason_has_the_command_and_the_last_that_it_said() -> None:
    said = {"msg": "non-zero return code", "cmd": ["nginx", "-t"], "stderr": "\n".join(map(str, range(20))), "rc": 1}
    lines = reason(said, "roles/nginx/tasks/main.yml:9").splitlines()
    assert lines[:2] == ["non-zero return code", "command: nginx -t"]
    assert lines[2:-1] == [str(number) for number in range(8, 20)]
    assert lines[-1] == "in roles/nginx/tasks/main.yml:9"
    assert reason({"msg": "2 mistakes", "mistakes": "a\nb\n"}, "x:1") == "2 mistakes\na\nb"
    items = {"msg": "All items completed", "results": [{"msg": "no"}, {"failed": True, "msg": "bad"}]}
    assert reason(items, "x:1") == "bad\nin x:1"
    hidden = reason({"censored": "...", "msg": "the password is hunter2"}, "x:1")
    assert "hunter2" not in hidden
    assert "may contain secrets" in hidden


def test_a_debug_says_its_message_its_variable_or_those_of_its_items() -> None:
    assert messages({"msg": "hello", "changed": False}) == ["hello"]
    assert messages({"msg": ["a", "b"]}) == ["a\nb"]
    assert messages({"_ansible_verbose_always": True, "__found.lines": ["a", "b"], "changed": False}) == ["a\nb"]
    assert messages({"msg": "All", "results": [{"msg": "a"}, {"skipped": True}, {"msg": "b"}]}) == ["a", "b"]


PLAYBOOK = """
- name: Try
  hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Say what is wanted
      ansible.builtin.debug:
        msg: two hosts and a word
    - name: Change something
      ansible.builtin.command: "true"
      changed_when: true
    - name: Deal with it
      block:
        - name: Fail, and be rescued
          ansible.builtin.command: "false"
      rescue:
        - name: Go on
          ansible.builtin.command: "true"
          changed_when: false
    - name: Fail where it hurts
      ansible.builtin.command: ls /nowhere
      changed_when: false
      when: inventory_hostname == 'two' and last
"""


def play(place: Path, *options: str, text: str = PLAYBOOK, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a small playbook with the project's settings."""
    (place / "try.yml").write_text(text, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(place / "try.yml"), "-i", "one,two,"]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_playbook_is_told_without_colours_and_each_error_once(tmp_path: Path) -> None:
    done = play(tmp_path, "-e", json.dumps({"last": True}))
    assert done.returncode == 2
    assert "\x1b" not in done.stdout
    # ansible-core 2.19's words for what 2.21 says.
    said = done.stdout.replace("The command exited with a non-zero return code.", "non-zero return code")
    shown = [re.sub(r"\d+\.\d s", "N s", " ".join(line.split())) for line in said.splitlines()]
    assert shown == [
        f"{tmp_path}/try.yml -i one,two,",
        "two hosts and a word",
        "",
        "Try one two",
        "Change something changed changed N s",
        "Fail, and be rescued failed failed N s",
        "Fail where it hurts failed N s",
        "two: non-zero return code",
        "command: ls /nowhere",
        "ls: cannot access '/nowhere': No such file or directory",
        f"in {tmp_path}/try.yml:21",
        "before that, one, two: non-zero return code",
        "command: false",
        f"in {tmp_path}/try.yml:15",
        "",
        "one ok=3 changed=1",
        "two ok=3 changed=1 failed=1",
        shown[-1],
    ]
    assert "Origin" not in done.stdout + done.stderr
    again = play(tmp_path, "-e", json.dumps({"last": False}))
    assert again.returncode == 0
    assert "before that" not in again.stdout


LOOPS = """
- hosts: one
  connection: local
  gather_facts: false
  tasks:
    - name: Say
      ansible.builtin.debug: {msg: "it is {{ item }}"}
      loop: [0, 4]
      when: item > 2
    - name: Fail at the second
      ansible.builtin.command: sh -c 'echo the queue is full; exit {{ item }}'
      loop: [0, 4, 0]
"""


def test_of_a_loop_the_items_that_say_or_fail_are_told(tmp_path: Path) -> None:
    done = play(tmp_path, text=LOOPS)
    assert done.returncode == 2
    assert [line.strip() for line in done.stdout.splitlines() if "it is" in line or "Conditional" in line] == [
        "it is 4"
    ]
    assert done.stdout.count("the queue is full\n") == 1
    assert "One or more items failed" not in done.stdout


@pytest.mark.parametrize(
    ("options", "environment"),
    [(["-v"], {}), ([], {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"})],
)
def test_ansibles_own_lines_are_had_by_asking(tmp_path: Path, options: list[str], environment: dict[str, str]) -> None:
    done = play(tmp_path, *options, "-e", json.dumps({"last": True}), **environment)
    assert "PLAY [Try]" in done.stdout
    assert "TASK [Change something]" in done.stdout
    assert "fatal: [two]: FAILED!" in done.stdout
    assert "PLAY RECAP" in done.stdout
    assert "before that" not in done.stdout


def test_of_many_hosts_that_a_long_step_waits_for_few_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        watch = imported("plugins/callback/progress.py").CallbackModule()
        watch.task, watch.busy = "Stage shop", [f"app{number:02}" for number in range(40, 0, -1)]
        watch.tell(0, None)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert capfd.readouterr().out == "... 0 s: Stage shop [app01, app02, app03, app04, app05 and 35 more]\n"
