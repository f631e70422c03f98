"""What can happen to a release, and what clients may notice of it: nothing, but for requests that a dead process held."""

from __future__ import annotations

import itertools
import operator
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from downloads import lines
from fleet import JOBS, Fleet
from reached import Host
from started import Run
from variants import APP, PATIENCE_S, SITE

PHASES = ["build", "stage", "migrate", "gate", "flip", "settle"]


def await_rest(fleet: Fleet, host: Host) -> None:
    """Return when a host has started again what was killed there, however busy this machine is."""
    deadline = time.monotonic() + 120
    while fleet.problems(host) and time.monotonic() < deadline:
        time.sleep(1)


@pytest.mark.parametrize("count", range(1, 11))
def test_good_release(fleet: Fleet, count: int) -> None:
    variant = fleet.variant()
    # The first five host by host, the others first one and then the rest.
    fleet.release(variant, sample_batches=["1"] if count <= 5 else ["1", "100%"])
    assert fleet.migrations(variant) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_good_release_of_an_app_that_is_loaded_once(fleet: Fleet, count: int) -> None:
    fleet.release(fleet.variant(), sample_preload=count == 1)  # from a slot of one kind to one of the other, both ways


def test_same_release_again_changes_nothing(fleet: Fleet) -> None:
    before = [host.look()["history"] for host in fleet.hosts]
    fleet.start(fleet.newest).must_end(well=True)
    assert [host.look()["history"] for host in fleet.hosts] == before


def test_changed_configuration(fleet: Fleet) -> None:
    fleet.release(fleet.newest, sample_greeting="welcome")


def test_plan_changes_nothing(fleet: Fleet) -> None:
    variant = fleet.variant()
    run = fleet.start(variant, flags=["--check", "--diff"])
    run.must_end(f"release {variant.version}-", "env.GREETING: welcome -> hello", "stage (", well=True)


def test_what_only_asks_needs_no_monitoring_host(fleet: Fleet) -> None:
    hosts = [host.name for host in fleet.hosts]
    Run("status").must_end(*hosts, well=True)
    Run("history").must_end(*hosts, well=True)
    Run("logs", app=APP, since="1m").must_end(*hosts, well=True)
    said = Run("logs", app=APP, host="app4").must_end("-e host=app4: the inventory has no such app host", well=False)
    assert "did you mean app" in said


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rollback(fleet: Fleet, count: int) -> None:
    # What was live before what is live, passing over earlier rollbacks.
    fleet.roll_back(fleet.past[-2 * count])


def test_release_after_rollbacks(fleet: Fleet) -> None:
    fleet.release(fleet.variant())


def test_broken_import(fleet: Fleet) -> None:
    fleet.refuse(
        fleet.variant("import"), "gate failed on app1, app2, app3", "No module named 'a_module_that_nobody_installed'"
    )


def test_broken_import_of_an_app_that_is_loaded_once(fleet: Fleet) -> None:
    words = ["gate failed on app1, app2, app3", "No module named 'a_module_that_nobody_installed'"]
    fleet.refuse(fleet.variant("import"), *words, sample_preload=True)


def test_worker_that_cannot_be_imported(fleet: Fleet) -> None:
    fleet.refuse(
        fleet.variant("worker import"),
        "gate failed on app1, app2, app3",
        "process worker of",
        "No module named 'a_module_that_nobody_installed'",
    )


def test_worker_that_ends_at_once(fleet: Fleet) -> None:
    fleet.refuse(fleet.variant("worker"), "flip failed on app1", "ended by itself (exit status 1)", "as it was told")


def test_not_ready(fleet: Fleet) -> None:
    fleet.refuse(fleet.variant("ready"), "gate", "/health/ready answered 503 instead of 200: no database")


def test_slow_start(fleet: Fleet) -> None:
    said = "no healthy answer from /health/ready within 15 s"
    fleet.refuse(fleet.variant("start"), "gate", said, sample_health_s=15)


def test_failing_under_traffic_only(fleet: Fleet) -> None:
    variant = fleet.variant("traffic")
    fleet.refuse(variant, "flip failed on app1", "were answered with 5xx", f"{fleet.past[-1].split()[0]} serves again")
    # Only clients can find this out: the canary's, until it has flipped back. The other hosts never served it.
    fleet.step.excuse(lambda it: it.status == 500 and it.said.startswith(variant.prefix))
    fleet.step.may_serve(variant)
    served = {it.host for it in fleet.collect() if it.said.startswith(variant.prefix)}
    assert served == {"app1"}
    fleet.refuse(variant, "is marked bad since", "-e force=true")


def test_wrong_group_of_the_sockets(fleet: Fleet) -> None:
    # Without the set-group-id bit of its directory a socket gets the app's own group, and NGINX cannot open it.
    fleet.second.run(f"chmod g-s /run/uwsgi/{APP}")
    try:
        fleet.refuse(fleet.variant(), "gate failed on app2", f"belongs to group {APP}", "expected group www-data")
    finally:
        fleet.second.run(f"chmod g+s /run/uwsgi/{APP}")


def test_failing_migration(fleet: Fleet) -> None:
    slots = [host.look()["live"] for host in fleet.hosts]
    fleet.refuse(fleet.variant("migrate"), "migrate failed on app1", "the sample cannot migrate, as it was told")
    assert [host.look()["live"] for host in fleet.hosts] == slots


@pytest.mark.parametrize("where", ["app1", "app3"])
def test_one_host_fails_at_stage(fleet: Fleet, where: str) -> None:
    host = fleet.first if where == "app1" else fleet.third
    with fleet.marked(host):
        fleet.refuse(
            fleet.variant("check", marked_only=True),
            f"stage failed on {where}",
            "the sample cannot check, as it was told",
        )


def test_disk_full_at_stage(fleet: Fleet) -> None:
    with fleet.second.small_disk("kilobytes"):
        fleet.refuse(fleet.variant(), "stage failed on app2", "no space left on the file system")


def test_inodes_used_up_at_stage(fleet: Fleet) -> None:
    with fleet.third.small_disk("inodes"):
        fleet.refuse(fleet.variant(), "stage failed on app3", "no inodes left on the file system")


def test_damaged_wheel_on_a_host(fleet: Fleet) -> None:
    fleet.third.run("for wheel in /srv/apps/.wheels/*/flask-*.whl; do echo damage >>$wheel; done")
    variant = fleet.variant()
    fleet.refuse(variant, "stage failed on app3", "is damaged and was removed")
    fleet.release(variant)


def test_one_host_fails_at_the_gate(fleet: Fleet) -> None:
    with fleet.marked(fleet.third):
        fleet.refuse(fleet.variant("ready", marked_only=True), "gate failed on app3", "answered 503")


def test_one_host_fails_at_the_flip(fleet: Fleet) -> None:
    variant = fleet.variant()
    fleet.step.may_serve(variant)
    run = fleet.start(variant, sample_bake_s=8)
    fleet.first.await_phase("flip")
    # What a file system does after an error of its disk.
    with fleet.second.read_only():
        run.must_end("flip failed on app2", "Read-only file system", well=False)
    assert fleet.first.says() == fleet.past[-1], "the first host was not flipped back"
    # The host could not even be told that the run is over: the next one finds that out.
    fleet.release(fleet.variant(), "app2: took over from an interrupted release")


def test_second_batch_fails_under_traffic(fleet: Fleet) -> None:
    variant = fleet.variant("traffic", marked_only=True)
    with fleet.marked(fleet.second):
        fleet.refuse(variant, "flip failed on app2", "were answered with 5xx")
    fleet.step.excuse(lambda it: it.host == "app2" and it.status == 500 and it.said.startswith(variant.prefix))
    fleet.step.may_serve(variant)
    served = {it.host for it in fleet.collect() if it.said.startswith(variant.prefix)}
    assert served == {"app1", "app2"}


@pytest.mark.parametrize("phase", PHASES)
def test_controller_killed(fleet: Fleet, phase: str) -> None:
    variant = fleet.variant(pace_s=1.5)
    fleet.step.may_serve(variant)
    run = fleet.start(variant)
    if phase == "build":
        run.await_output("Build on the controller")
    else:
        fleet.first.await_phase(phase)
    run.kill()
    said = fleet.release(variant)
    # What has begun on a host goes on there: a run that was killed while it settled may have been settled by then.
    if phase not in {"build", "settle"}:
        assert "app1: took over from an interrupted release" in said, said
        assert f"(phase '{phase}')" in said, said


def test_two_releases_at_once(fleet: Fleet) -> None:
    first, second, third = fleet.variant(pace_s=3), fleet.variant(), fleet.variant()
    run = fleet.start(first, why="the first of two")
    fleet.first.await_phase("stage")
    fleet.refuse(
        second, f"{APP} is locked by", f"(pid {run.process.pid})", "release - the first of two", "-e lock_wait=SECONDS"
    )
    waiting = fleet.start(third, lock_wait=PATIENCE_S)
    fleet.step.may_serve(first)
    run.must_end(well=True)
    fleet.past.append(fleet.one_answer())
    waiting.must_end(well=True)
    fleet.now_live(third)


def test_refresh_starts_the_same_release_again(fleet: Fleet) -> None:
    before = [host.look()["live"] for host in fleet.hosts]
    Run("refresh").must_end(well=True)
    # Host by host: each counts its slots itself, and one may be behind.
    after = [host.look()["live"] for host in fleet.hosts]
    assert all(map(operator.ne, before, after)), (before, after)
    assert fleet.one_answer() == fleet.past[-1]


def test_another_uwsgi_is_taken_by_the_next_release(fleet: Fleet) -> None:
    before, place = [host.look()["emperors"] for host in fleet.hosts], "/opt/uwsgi/venv-0123456789ab"
    for host in fleet.hosts:
        # What provision.yml does with another lock: a virtualenv under another name, and the link. Its programs name the Python that they run with.
        host.run(
            f"cp -a $(readlink /opt/uwsgi/venv) {place} && sed -i '1s|.*|#!{place}/bin/python3|' {place}/bin/uwsgi {place}/bin/pip && "
            f"ln -sfn {place} /opt/uwsgi/venv"
        )
    said = fleet.start(fleet.newest).must_end(
        "uWSGI, the unit of the Emperor or the app's sandbox was changed", well=True
    )
    assert "nothing to do" not in said
    after = [host.look()["emperors"] for host in fleet.hosts]
    assert [len(found) for found in after] == [1, 1, 1]
    assert all(map(operator.ne, before, after)), (before, after)
    for host in fleet.hosts:
        running = host.run("ps -u sample -o args=")
        assert f"{place}/bin/python3 {place}/bin/uwsgi" in running, running
        assert host.run("ls -d /opt/uwsgi/venv-*").split() == [place]


def test_a_replaced_library_is_taken_by_a_refresh(fleet: Fleet) -> None:
    for host in fleet.hosts:
        # What dpkg does with a new version of a file: a new one under its name, the old one lives on in who has it mapped.
        host.run(
            "cp -a $(readlink -f /usr/bin/python3) /usr/bin/.new && mv /usr/bin/.new $(readlink -f /usr/bin/python3)"
        )
    before = [host.look()["emperors"] for host in fleet.hosts]
    Run("refresh").must_end("which was replaced", well=True)
    after = [host.look()["emperors"] for host in fleet.hosts]
    assert all(map(operator.ne, before, after)), (before, after)
    for host in fleet.hosts:
        left = host.run("/usr/local/libexec/praetor/restart-stale --list")
        assert "uwsgi-emperor" not in left, left


def test_freeze_allows_rollback_only(fleet: Fleet) -> None:
    Run("freeze", until_time="+1h", reason="the sale").must_end(well=True)
    try:
        fleet.refuse(fleet.variant(), "are frozen until", "the sale")
        fleet.roll_back(fleet.past[-2])
    finally:
        Run("freeze", thaw=True).must_end(well=True)
    fleet.release(fleet.variant())


def test_release_and_rollback_at_full_load(fleet: Fleet) -> None:
    with fleet.full_load() as report:
        fleet.release(fleet.variant())
        fleet.roll_back(fleet.past[-2])
    said = report.read_text(encoding="utf-8")
    assert "requests in" in said, said
    assert "Non-2xx" not in said, said
    assert "Socket errors" not in said, said


def test_worker_killed(fleet: Fleet) -> None:
    host = fleet.second
    seen = host.look()["processes"]
    worker = next(pid for pid, (_, parent) in seen.items() if seen.get(parent, ("", ""))[1] in seen)
    killed = time.time()
    host.run(f"kill -9 {worker}")
    after = time.time()
    time.sleep(5)
    await_rest(fleet, host)
    # It held the requests that were under way then, one per thread at most.
    fleet.step.excuse(
        lambda it: it.host == host.name and it.due < after and it.ended > killed and it.status in {0, 502}
    )
    fleet.collect()
    assert len(fleet.step.failed()) <= 4
    assert worker not in host.look()["processes"]


def test_request_that_hangs(fleet: Fleet) -> None:
    # Next to it the same worker answers others all the time, which must neither put its end off nor be lost with it.
    host = fleet.first
    before, workers = host.ended(), host.look()["processes"]
    assert host.ask("/stuck").status in {502, 504}
    deadline = time.monotonic() + 120
    while host.ended() == before:
        assert time.monotonic() < deadline, "nobody has ended it"
        time.sleep(0.5)
    time.sleep(2)
    assert host.ended() == before + 1
    assert len(set(workers) - set(host.look()["processes"])) == 1, "not one worker was replaced"


def test_downloads_by_slow_clients(fleet: Fleet) -> None:
    host, right = fleet.first, b"".join(number.to_bytes(8, "big") * 8192 for number in range(3200))
    slow = lines(slow_s=35)
    with ThreadPoolExecutor(len(slow)) as pool:
        downloads = []
        for line in slow:
            downloads.append(pool.submit(line.take, host.address, SITE, host.authority, "/huge", right))
            time.sleep(1)
            while "/huge" in host.look()["asked"]:
                time.sleep(0.2)
            # A worker that is held is held until the client has everything.
            assert not downloads[-1].done(), f"{line} holds a worker"
        wrong = [download.result() for download in downloads]
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_queue_worker_killed(fleet: Fleet) -> None:
    host = fleet.second
    [unit] = [unit for unit in host.look()["units"] if "-worker-" in unit and unit.endswith("@1.service")]
    host.run(f"systemctl kill --signal=KILL {unit}")
    time.sleep(5)  # systemd starts it again after one
    await_rest(fleet, host)


def test_host_reboots(fleet: Fleet) -> None:
    host = fleet.third
    boot = host.boot()
    host.run("systemctl reboot", check=False)
    host.await_other_boot(boot)
    back = time.time()
    fleet.step.excuse(lambda it: it.host == host.name and it.due < back)


def test_host_loses_power_while_it_bakes(fleet: Fleet) -> None:
    host, variant = fleet.second, fleet.variant()
    fleet.step.may_serve(variant)
    boot = host.boot()
    run = fleet.start(variant, sample_bake_s=8)
    host.await_phase("flip")
    host.run("reboot -ff", check=False)
    went_well = run.process.wait() == 0
    host.await_other_boot(boot)
    back = time.time()
    fleet.step.excuse(lambda it: it.host == host.name and it.due < back)
    # A host that is back before ssh has given up bakes on. One that is back before the others have gone back goes with them.
    # Else the next run finds and repairs it.
    if not went_well:
        assert fleet.first.says() == fleet.third.says() == fleet.past[-1]
    undone = host.says() == fleet.past[-1]
    said = fleet.release(variant)
    assert went_well or undone or "app2: took over from an interrupted release" in said


def test_host_away_is_named_left_out_and_caught_up(fleet: Fleet) -> None:
    variant, later, third = fleet.variant(), fleet.variant(), fleet.third
    fleet.step.may_serve(variant)
    # Its SSH is gone, the site is not: the firewall drops what comes to that port.
    place = fleet.scratch / "away.yml"
    place.write_text(f"app_hosts: {{hosts: {{{third.name}: {{ansible_port: 1}}}}}}\n")
    away, without = ["-i", str(place)], ["--limit", f"!{third.name}"]
    said = fleet.refuse(variant, f"{third.name} does not answer: ", "port 1: Connection timed out", flags=away)
    assert f"--limit '!{third.name}'" in said
    Run("release", sample_source=str(variant.path), why="no time", flags=[*away, *without]).must_end(well=True)
    assert fleet.first.says().startswith(variant.prefix)
    assert third.says() == fleet.past[-1]
    Run("status", flags=away).must_end(f"{third.name}  -", "port 1: Connection timed out", well=True)
    Run("history").must_end(f"without {third.name}: no time", well=True)
    Run("status").must_end("healthy, behind", f"--limit {third.name}", well=True)
    # What the others serve, and not what the tree holds by now.
    fleet.start(later, flags=["--limit", third.name]).must_end(f"{third.name} behind: ", well=True)
    fleet.now_live(variant)


def test_slow_host_is_waited_for_once_a_phase(fleet: Fleet) -> None:
    variant, second, slow = fleet.variant(), fleet.second, fleet.scratch / "slow-ssh"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *{second.address}*) echo slow >> {slow}.log; sleep 8;; esac\nexec ssh "$@"\n'
    )
    slow.chmod(0o755)
    place = fleet.scratch / "slow.yml"
    place.write_text(f"app_hosts: {{vars: {{ansible_ssh_executable: {slow}}}}}\n")
    said = fleet.release(variant, flags=["-i", str(place)])
    assert f"s: stage | Stage {APP} [{second.name}]" in said, "the host that all wait for was not named"
    # The Python, because another inventory asks; survey, stage with the release's files, gate, flip, settle.
    calls = len(Path(f"{slow}.log").read_text(encoding="ascii").splitlines())
    assert calls <= 6, f"{calls} commands for 6 steps"


def test_release_after_everything(fleet: Fleet) -> None:
    fleet.release(fleet.variant())


def test_every_job_was_done_once(fleet: Fleet) -> None:
    told = {host.name: host.queue("end", 600) for host in fleet.hosts}
    print(*told.items(), sep="\n")  # noqa: T201  what the proof rests on
    assert not [found for found in told.values() if found["not done"] or found["done twice"]], told
    # On the second host workers were killed, by hand and by a power cut: what they were doing was begun again.
    assert not told["app1"]["begun twice"], told
    assert not told["app3"]["begun twice"], told
    assert sum(found["done"] for found in told.values()) >= JOBS, told
    # They were done by many releases, one after the other.
    assert min(found["versions"] for found in told.values()) >= 10, told


def test_there_was_never_a_second_scheduler(fleet: Fleet) -> None:
    lines = fleet.first.run(f"cat /srv/apps/{APP}/data/beats").splitlines()
    times = sorted((float(line.split()[1]), float(line.split()[2])) for line in lines)
    assert len(times) >= 20
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times)), times
