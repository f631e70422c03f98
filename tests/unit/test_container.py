"""The first process of the image, without an image: what it understands, what it refuses, and what it logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from praetor_container import __main__ as commands
from praetor_container import programs, serving
from praetor_container import settings as variables
from praetor_container.image import Health, Image, RefusedError, read
from project import ROOT, load

from praetor.host.gate import wait_until

FACTS = {
    "app": "api",
    "release": "1.0.0-0123abcd",
    "server_name": "localhost",
    "workers": "auto",
    "longest_s": 50,
    "health": {"path": "/health/ready", "status": 200, "timeout_s": 30, "warmup_s": 5},
    "commands": {"check": [["python", "-m", "api.config", "check"]], "migrate": [], "migrate_on": "each"},
    "processes": [{"name": "mailer", "command": ["python3", "mailer.py", "${APP_PROCESS}"], "stop_signal": "SIGUSR1"}],
}


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Return an image whose root is a directory."""
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(FACTS))
    found = read(facts, tmp_path)
    for place in (found.place / "env", found.place / "src", found.data, tmp_path / "run", tmp_path / "tmp"):
        place.mkdir(parents=True)
    (found.place / "env" / "APP_PROFILE").write_text("prod")
    return found


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what was written to stderr, piece by piece."""
    pieces: list[bytes] = []
    monkeypatch.setattr(programs, "write", pieces.append)
    return pieces


def quota(image: Image, version: int, text: str) -> None:
    """Give the container a share of the processors, as cgroups of a version say it."""
    groups = image.root / "sys/fs/cgroup"
    if version == 2:
        groups.mkdir(parents=True)
        (groups / "cpu.max").write_text(f"{text} 100000\n")
    else:
        (groups / "cpu").mkdir(parents=True)
        (groups / "cpu/cpu.cfs_quota_us").write_text(f"{text}\n")
        (groups / "cpu/cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [
        (2, "150000", 2),
        (1, "150000", 2),
        (2, "50000", 1),
        (1, "1000", 1),
        (2, "9000000", 8),
        (2, "max", 8),
        (1, "-1", 8),
    ],
)
def test_workers_are_as_many_as_the_processors_that_the_container_was_given(
    image: Image, monkeypatch: pytest.MonkeyPatch, version: int, text: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    quota(image, version, text)
    assert variables.settings({}, image).workers == expected


def test_what_the_entry_says_of_workers_counts_and_the_variable_more(image: Image) -> None:
    fixed = replace(image, workers=3)
    assert variables.settings({}, fixed).workers == 3
    assert variables.settings({"WORKERS": "5"}, fixed).workers == 5


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PORT", "http", "from 1 to 65535"),
        ("PORT", "65536", "from 1 to 65535"),
        ("PORT", "٨٠", "from 1 to 65535"),
        ("WORKERS", "0", "from 1 to 64"),
        ("WORKERS", "auto", "from 1 to 64"),
        ("DRAIN_S", "-1", "from 0 to 3600"),
        ("DRAIN_S", "1.5", "from 0 to 3600"),
        ("MIGRATE", "true", "expected yes or no"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, balancer", "'balancer' does not appear"),
        ("METRICS_LISTEN", "9117", "expected ADDRESS:PORT"),
        ("METRICS_LISTEN", "localhost:9117", "expected ADDRESS:PORT"),
        ("UWSGI_PROCESSES", "4", "WORKERS"),
        ("APP_RELEASE", "2.0", "the image sets it itself"),
        ("APP_SECRETS_DIR", "/elsewhere", "the image sets it itself"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name_and_what_was_expected(
    image: Image, name: str, value: str, hint: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        variables.settings({name: value}, image)
    assert name in str(refused.value)
    assert hint in str(refused.value)


def test_all_wrong_variables_are_named_at_once(image: Image) -> None:
    with pytest.raises(RefusedError) as refused:
        variables.settings({"PORT": "x", "WORKERS": "y", "MIGRATE": "z"}, image)
    assert all(name in str(refused.value) for name in ("PORT", "WORKERS", "MIGRATE"))


@pytest.mark.parametrize(
    ("migrate_on", "given", "expected"),
    [("each", "", True), ("once", "", False), ("each", "no", False), ("once", "yes", True)],
)
def test_migrations_run_where_the_entry_or_the_variable_says_so(
    image: Image, migrate_on: str, given: str, *, expected: bool
) -> None:
    found = variables.settings({"MIGRATE": given}, replace(image, migrate_on=migrate_on))
    assert found.migrate is expected


def test_a_name_that_is_nearly_a_variable_is_told() -> None:
    told = variables.misspelt(
        {"WORKER": "2", "TRUSTED_PROXY": "x", "HOSTNAME": "x", "PATH": "x", "API_ROOT": "x", "PORT": "80"}
    )
    assert [sentence.partition(" ")[0] for sentence in told] == ["TRUSTED_PROXY", "WORKER"]
    assert "did you mean WORKERS?" in told[1]


def test_secrets_are_over_variables_and_these_over_the_release(image: Image) -> None:
    image.secrets.mkdir()
    (image.secrets / "API_DATABASE__PASSWORD").write_text("geheim\n")
    (image.secrets / "..data").mkdir()  # Kubernetes'
    (image.secrets / "tls.crt").write_text("no variable")
    given = {"API_DATABASE__PASSWORD": "other", "APP_PROFILE": "staging", "HOME": "/", "PATH": "/elsewhere"}
    found = variables.environment(given, image)
    assert found["API_DATABASE__PASSWORD"] == "geheim"  # noqa: S105  a test's
    assert found["APP_PROFILE"] == "staging"
    assert found["APP_SECRETS_DIR"] == str(image.secrets)
    assert found["HOME"] == str(image.data)
    assert found["PATH"].startswith(f"{image.place}/venv/bin:")
    assert "tls.crt" not in found
    assert variables.environment({}, image)["APP_PROFILE"] == "prod"


@pytest.mark.parametrize("name", ["PATH", "APP_RELEASE", "PORT"])
def test_a_secret_cannot_replace_what_the_image_sets(image: Image, name: str) -> None:
    image.secrets.mkdir()
    (image.secrets / name).write_text("x")
    with pytest.raises(RefusedError, match=name):
        variables.environment({}, image)


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that NGINX could have, and that nobody else is given meanwhile."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("", 0))
        yield kept.getsockname()[1]


def test_what_is_known_at_the_start_is_written_in_the_words_of_nginx_and_uwsgi(image: Image, port: int) -> None:
    found = variables.settings({"PORT": str(port), "WORKERS": "3", "TRUSTED_PROXIES": "10.0.0.0/8 ::1"}, image)
    files = serving.late_files(image, found)
    assert f"listen {port};" in files["run/nginx/listen.conf"]
    assert files["run/nginx/real_ip.conf"] == "set_real_ip_from 10.0.0.0/8;\nset_real_ip_from ::1/128;\n"
    assert files["run/nginx/proxies.conf"] == "10.0.0.0/8 proxy;\n::1/128 proxy;\n"
    assert files["run/uwsgi/api/container.ini"] == "[uwsgi]\nprocesses = 3\n"


def test_nothing_of_an_earlier_life_of_the_container_is_left(image: Image, port: int) -> None:
    image.run.mkdir(parents=True)
    for name in (f"{image.slot}.sock", f"{image.slot}.stats", f"{image.slot}.ini"):
        (image.run / name).write_text("old")
    serving.prepare(image, variables.settings({"PORT": f"0{port}"}, image))
    assert sorted(path.name for path in image.run.iterdir()) == [
        f"{image.slot}.ini",
        f"{image.slot}.metrics",
        "container.ini",
    ]


def test_a_port_that_is_taken_is_refused(image: Image) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104
        found = variables.settings({"PORT": str(taken.getsockname()[1])}, image)
        with pytest.raises(RefusedError, match="Address already in use"):
            serving.late_files(image, found)


def test_lines_that_are_no_json_become_json(said: list[bytes], tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b'{"level": "info"}\n\n*** Starting uWSGI\xff\n2026/01/01 00:00:00 [crit] 7#7: no space\n')
    with lines.open("rb") as source:
        programs.relay("nginx", source)
    assert said[0] == b'{"level": "info"}\n'
    found = [json.loads(line) for line in said[1:]]
    assert [line["level"] for line in found] == ["info", "critical"]
    assert [line["program"] for line in found] == ["nginx", "nginx"]
    assert found[0]["message"] == "*** Starting uWSGI\\xff"


def test_the_access_log_is_passed_on_in_whole_lines(said: list[bytes]) -> None:
    source, target = os.pipe()
    reader = threading.Thread(target=programs.copy, args=(source,))
    reader.start()
    for piece in (b'{"a":1}\n{"b"', b":2}\n", b'{"c":3}\n'):
        os.write(target, piece)
        time.sleep(0.05)
    os.close(target)
    reader.join(60)
    os.close(source)
    assert b"".join(said) == b'{"a":1}\n{"b":2}\n{"c":3}\n'
    assert all(piece.endswith(b"\n") or not piece for piece in said)


def started(code: str, **options: float) -> programs.Program:
    """Start a Python program."""
    return programs.Program("it", [sys.executable, "-c", code], os.environ, **options)  # type: ignore[arg-type]


def deaf(said: list[bytes], **options: float) -> programs.Program:
    """Start a program that does not listen, and wait until it has said so."""
    code = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"
    )
    program = started(code, **options)
    assert wait_until(lambda: any(b"deaf" in piece for piece in said), 60)
    return program


def test_a_program_that_does_not_end_in_its_time_is_killed(said: list[bytes]) -> None:
    program = deaf(said, grace_s=0.2)
    program.stop(threading.Event())
    assert program.process.returncode == -signal.SIGKILL
    assert b"it did not end in 0 s: killed" in said[-1]


def test_who_asks_twice_does_not_wait(said: list[bytes]) -> None:
    program, hurry = deaf(said, grace_s=60), threading.Event()
    hurry.set()
    program.stop(hurry)
    assert program.process.returncode == -signal.SIGKILL
    assert b"killed" in said[-1]


def test_the_end_of_a_program_is_told_from_that_of_an_orphan(said: list[bytes]) -> None:
    program = started("raise SystemExit(3)")
    os.waitid(os.P_PID, program.process.pid, os.WEXITED | os.WNOWAIT)
    with subprocess.Popen([sys.executable, "-c", ""]) as orphan:
        os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
        assert serving.ended([program]) == [(program, "exit status 3")]
        orphan.returncode = 0  # it was buried by its number
    assert said == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["helth"], "did you mean health?"),
        (["python", "-m", "api.config", "show"], "did you mean run python -m api.config show?"),
        (["run"], "which command?"),
        (["run", "nonsense-program"], "run nonsense-program: No such file"),
    ],
)
def test_an_unknown_command_leads_to_the_known_one(
    image: Image, monkeypatch: pytest.MonkeyPatch, words: list[str], hint: str
) -> None:
    monkeypatch.chdir(image.root)
    with pytest.raises(RefusedError, match=r".") as refused:
        commands._do(words, image, {})
    assert hint in str(refused.value)


def test_a_command_of_the_app_that_fails_is_named(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.root)
    failing = replace(image, checks=[["/bin/sh", "-c", "exit 7"]])
    with pytest.raises(RefusedError, match="exit status 7"):
        commands._do(["check"], failing, {})


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_health_is_what_a_client_would_see(
    image: Image, capsys: pytest.CaptureFixture[str], status: int, expected: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET /health/ready HTTP/1.1\r\n")
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        assert commands.health(image, server.getsockname()[1]) == expected
        thread.join(60)
    assert f"{status} ok" in capsys.readouterr().out


def test_health_says_when_nobody_answers(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        assert commands.health(image, taken.getsockname()[1]) == 1
    assert "no answer" in capsys.readouterr().out


def test_every_variable_and_command_is_in_the_readme() -> None:
    text = (ROOT / "container/README.md").read_text(encoding="utf-8")
    assert [name for name in variables.OWN if f"| `{name}` |" not in text] == []
    assert [name for name in commands.COMMANDS if f"`{name}" not in text] == []


def test_a_worker_hears_its_own_signal_when_the_container_is_to_end(image: Image) -> None:
    program = "import os, signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))\n"
    program += "assert sys.argv[1] == os.environ['APP_PROCESS']\nprint('ready', flush=True)\nsignal.pause()\n"
    (image.place / "src/mailer.py").write_text(program, encoding="utf-8")
    start = "from praetor_container import __main__, image; import os, pathlib, sys; "
    start += "sys.exit(__main__._do(['worker', 'mailer'], image.read(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])), os.environ))"
    command = [sys.executable, "-c", start, str(image.root / "facts.json"), str(image.root)]
    running = subprocess.Popen(command, cwd=ROOT / "container", stdout=subprocess.PIPE, text=True)
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.wait(60) == 7


def test_a_worker_that_the_entry_does_not_have_is_refused(image: Image) -> None:
    with pytest.raises(RefusedError, match="worker sender: api has mailer"):
        commands._do(["worker", "sender"], image, {})
    with pytest.raises(RefusedError, match="worker NAME: api has mailer"):
        commands._do(["worker"], image, {})


def test_what_the_playbook_writes_down_is_what_the_first_process_reads() -> None:
    [_, play] = load(ROOT / "playbooks/image.yml")
    [facts] = [task["vars"]["__image_facts"] for task in play["tasks"] if "__image_facts" in task.get("vars", {})]
    assert facts.keys() == FACTS.keys()
    assert Health(**{key: FACTS["health"][key] for key in ("path", "status", "timeout_s")})  # type: ignore[index]
