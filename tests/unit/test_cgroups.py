"""What an application takes as a whole, as the kernel counts it: trees of files as cgroup v2 writes them, with and without its controllers."""

from pathlib import Path

import pytest
from scraped import Host, app_key

from app_exporter.cgroups import program_of
from app_exporter.scrape import Exporter, Settings

# As a kernel writes them that has no controller for the group, and one that has all.
CPU = "usage_usec 463432\nuser_usec 318048\nsystem_usec 145383\nnice_usec 0\n"
THROTTLED = (
    "core_sched.force_idle_usec 0\nnr_periods 90\nnr_throttled 12\nthrottled_usec 2500000\nnr_bursts 0\nburst_usec 0\n"
)
EVENTS = "low 0\nhigh 31\nmax 207\noom 5\noom_kill 4\noom_group_kill 0\n"


class Slices:
    """The cgroup of the slice of all applications."""

    def __init__(self, root: Path) -> None:
        self.root = root / "apps.slice"

    def put(self, place: str, pids: int = 0, **files: str) -> Path:
        """Make a cgroup below the slice of the application."""
        cgroup = self.root / "apps-api.slice" / place
        cgroup.mkdir(parents=True, exist_ok=True)
        procs = "".join(f"{100 + number}\n" for number in range(pids))
        for name, text in {"cgroup_procs": procs, "cpu_stat": CPU, **files}.items():
            (cgroup / name.replace("_", ".", 1)).write_text(text, encoding="ascii")
        return cgroup


@pytest.fixture
def slices(tmp_path: Path) -> Slices:
    return Slices(tmp_path)


@pytest.fixture
def host(tmp_path: Path, slices: Slices) -> Host:
    found = Host(tmp_path / "h")
    found.exporter = Exporter(Settings(found.run, found.apps, slices=slices.root))
    return found


def test_memory_processor_tasks_and_what_was_refused_are_the_kernels(host: Host, slices: Slices) -> None:
    slices.put(
        "", memory_current="104857600\n", memory_max="536870912\n", memory_events=EVENTS, cpu_stat=CPU + THROTTLED
    )
    slices.put("", pids_current="37\n", pids_max="4096\n", pids_events="max 9\n", cpu_stat=CPU + THROTTLED)
    slices.put("uwsgi-emperor@api-3.service", 3, memory_current="60000000\n")
    slices.put("app-api-worker-17@1.service", 2, memory_current="20000000\n")
    slices.put("app-api-worker-18@1.service", 1, memory_current="10000000\n")
    slices.put("app-api-cleanup.service", 1, memory_current="1000\n")
    found = host.scrape()
    assert found[app_key("praetor_app_memory_bytes")] == 104857600
    assert found[app_key("praetor_app_memory_limit_bytes")] == 536870912
    assert found[app_key("praetor_app_oom_kills_total")] == 4
    assert found[app_key("praetor_app_memory_slowed_total")] == 31
    assert found[app_key("praetor_app_cpu_seconds_total")] == 0.463432
    assert found[app_key("praetor_app_cpu_throttled_seconds_total")] == 2.5
    assert found[app_key("praetor_app_tasks")] == 37
    assert found[app_key("praetor_app_tasks_limit")] == 4096
    assert found[app_key("praetor_app_tasks_refused_total")] == 9
    for program, count, memory in (("slots", 3, 6e7), ("worker", 3, 3e7), ("cleanup", 1, 1000)):
        assert found[app_key("praetor_program_processes", program=program)] == count
        assert found[app_key("praetor_program_memory_bytes", program=program)] == memory
    assert host.errors(found) == {}


def test_a_machine_without_controllers_has_the_figures_that_it_has(host: Host, slices: Slices) -> None:
    slices.put("")
    slices.put("uwsgi-emperor@api-1.service", 2)
    slices.put("uwsgi-emperor@api-1.service/deeper", 2)
    found = host.scrape()
    assert found[app_key("praetor_app_cpu_seconds_total")] == 0.463432
    assert found[app_key("praetor_program_processes", program="slots")] == 4
    names = {name for name, _ in found if name.startswith(("praetor_app_", "praetor_program_"))}
    assert names == {"praetor_app_cpu_seconds_total", "praetor_program_processes"}
    assert host.errors(found) == {}


def test_no_limit_is_no_figure_and_nothing_running_neither(host: Host, slices: Slices) -> None:
    assert not [name for name, _ in host.scrape() if name.startswith("praetor_app_")]
    slices.put("", memory_current="1\n", memory_max="max\n")
    found = host.scrape()
    assert found[app_key("praetor_app_memory_bytes")] == 1
    assert app_key("praetor_app_memory_limit_bytes") not in found


@pytest.mark.parametrize("file", ["memory_current", "memory_events", "cpu_stat"])
def test_what_the_kernel_would_not_write_is_told_and_breaks_nothing(host: Host, slices: Slices, file: str) -> None:
    slices.put("", 0, **{file: "many words here\n"})
    found = host.scrape()
    assert list(host.errors(found)) == [("cgroup", "api")]
    assert found[app_key("praetor_releases")] == 1


@pytest.mark.parametrize(
    ("unit", "program"),
    [
        ("uwsgi-emperor@api-12.service", "slots"),
        ("app-api-worker-17@2.service", "worker"),
        ("app-api-cleanup.service", "cleanup"),
        ("app-api-command.service", "command"),
        ("app-apinew-worker-1@1.service", "other"),
        ("run-u12.service", "other"),
    ],
)
def test_a_unit_is_named_by_what_it_runs(unit: str, program: str) -> None:
    assert program_of(unit, "api") == program


def test_a_missed_run_is_told_with_the_name_of_its_timer(host: Host) -> None:
    (host.app / "missed.json").write_text('{"cleanup": 1795600000}\n', encoding="utf-8")
    labels = {"app": "api", "program": "cleanup", "name": "app-api-cleanup.timer"}
    assert host.scrape()["praetor_job_missed_timestamp_seconds", frozenset(labels.items())] == 1795600000
