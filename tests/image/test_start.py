"""Starting: the two commands that everybody tries first, and what a container says when it cannot start."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import LOCKED, Container, Start
from engine import ENVIRONMENT, NETWORK, docker


@pytest.mark.usefixtures("image")
def test_the_first_commands_serve_at_a_terminal_and_end_with_a_key() -> None:
    terminal, inside = pty.openpty()
    command = ["docker", "run", "--name", "first", "-p", "8085:80", "-it", "flaskapp:latest"]
    client = subprocess.Popen(
        command, env=ENVIRONMENT, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    try:
        deadline = time.monotonic() + 300
        while docker("inspect", "first", check=False).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        Container("first").ready()
        answer = subprocess.run(
            ["curl", "--silent", "http://localhost:8085/health/ready"], capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout) == {"status": "ok"}
        os.write(terminal, b"\x03")
        assert client.wait(120) == 0
    finally:
        if client.poll() is None:
            client.send_signal(signal.SIGKILL)
            client.wait()
        os.close(terminal)
        docker("rm", "--force", "--volumes", "first")


@pytest.mark.parametrize(
    "user",
    [
        pytest.param([], id="the image's user"),
        pytest.param(["--user", "123456"], id="any user, as OpenShift gives"),
    ],
)
def test_it_serves_with_no_right_and_nothing_to_write_to(start: Start, user: list[str]) -> None:
    container = start(options=(*LOCKED, *user)).ready()
    status, _ = container.get("/items", 80, "--json", '{"name": "nail", "kind": "part"}')
    assert status == 201  # the data directory is its own
    told = container.run("sh", "-c", "cat /proc/[0-9]*/status").splitlines()
    assert {line.split()[1] for line in told if line.startswith("Cap")} == {"0" * 16}
    assert {line.split()[1] for line in told if line.startswith("NoNewPrivs")} == {"1"}
    assert {line.split()[1] for line in told if line.startswith("Uid")} == {user[-1] if user else "10001"}
    assert len([line for line in told if line.startswith("Uid")]) > 4  # all programs are among them


def test_the_engine_sees_its_health_through_nginx(start: Start) -> None:
    container = start().ready()
    deadline = time.monotonic() + 300
    while container.inspect("{{.State.Health.Status}}") != "healthy":
        assert time.monotonic() < deadline, container.inspect("{{json .State.Health}}")
        time.sleep(0.5)
    while not any(line.get("user_agent") == "healthcheck" for line in container.said()):
        assert time.monotonic() < deadline, "no line of the access log"
        time.sleep(0.5)


def test_it_says_everything_as_json_on_stderr_and_nothing_on_stdout(start: Start) -> None:
    container = start().ready()
    for number in range(50):
        assert container.get(f"/version?n={number}")[0] == 200
    docker("stop", "--time", "30", container.name)
    assert docker("logs", container.name).stdout == ""
    lines = container.said()  # each line is JSON, or this fails
    # Each of NGINX's workers writes its own lines.
    asked = sorted(line["uri"] for line in lines if "?n=" in line.get("uri", ""))
    assert asked == sorted(f"/version?n={number}" for number in range(50))


WRONG = {
    "a setting of the app": ("API_HTTP__DEADLINE=5", "did you mean API_HTTP__DEADLINE_S"),
    "a profile": ("APP_PROFILE=prdo", "prdo"),
    "a port": ("PORT=eighty", "PORT='eighty': expected a whole number from 1 to 65535"),
    "workers": ("WORKERS=many", "WORKERS='many': expected a whole number from 1 to 64"),
    "proxies": ("TRUSTED_PROXIES=balancer", "expected addresses and networks"),
    "an option of uWSGI": ("UWSGI_PROCESSES=9", "WORKERS"),
    "a fact of the image": ("APP_RELEASE=2", "the image sets it itself"),
    "whether to migrate": ("MIGRATE=maybe", "MIGRATE='maybe': expected yes or no"),
    "seconds of draining": ("DRAIN_S=-1", "DRAIN_S='-1': expected a whole number from 0 to 3600"),
    "an address for metrics": ("METRICS_LISTEN=9117", "METRICS_LISTEN='9117': expected ADDRESS:PORT"),
    "a value of the app's type": ("API_HTTP__DEADLINE_S=soon", "API_HTTP__DEADLINE_S"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_variable_ends_the_start_with_what_was_expected(start: Start, kind: str) -> None:
    given, expected = WRONG[kind]
    container = start(options=("--env", given))
    status, _ = container.ended()
    assert status == 1
    assert any(expected in message for message in container.messages()), container.messages()


def test_what_an_app_wants_before_it_serves_can_be_done_by_another_container(start: Start) -> None:
    container = start(options=("--env", "MIGRATE=no"))
    deadline = time.monotonic() + 300
    while container.get("/health/ready")[0] != 503:
        assert time.monotonic() < deadline, container.messages()
        time.sleep(0.1)
    assert "api.migrate" in container.get("/health/ready")[1]
    same = ("run", "--rm", *LOCKED, "--volumes-from", container.name, "flaskapp")
    assert docker(*same, "check").stdout == ""
    docker(*same, "migrate")
    container.ready()
    shown = docker(
        "run", "--rm", "--env", "APP_PROFILE=dev", "flaskapp", "run", "python", "-m", "api.config", "show"
    ).stdout
    assert re.search(r"^profile\b.*\bdev\b", shown, re.MULTILINE), shown


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(start: Start) -> None:
    status, last = start(options=("--read-only",)).ended()
    assert status == 1
    assert "/run" in last
    assert "--tmpfs /run --tmpfs /tmp" in last


@pytest.mark.usefixtures("image")
def test_secrets_are_files_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "API_DATABASE__PASSWORD"
    secret.write_text("s3cret-of-the-test\n")
    secret.chmod(0o444)
    tmp_path.chmod(0o755)
    words = (
        "run",
        "--rm",
        "--volume",
        f"{tmp_path}:/run/secrets:ro",
        "flaskapp",
        "run",
        "python",
        "-m",
        "api.config",
        "show",
    )
    done = docker(*words)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("database.password")]
    assert "secret API_DATABASE__PASSWORD" in line
    assert "s3cret" not in done.stdout + done.stderr
    secret.chmod(0o000)
    refused = docker(*words, check=False)
    assert refused.returncode == 1
    assert "cannot read the secret" in refused.stderr


@pytest.mark.parametrize(("options", "workers"), [(("--cpus", "1"), 1), (("--env", "WORKERS=3"), 3)])
def test_workers_are_what_the_container_was_given_or_told(start: Start, options: tuple[str, ...], workers: int) -> None:
    container = start(options=options).ready()
    [serving] = [line for line in container.said() if line.get("message") == "serving"]
    assert serving["workers"] == workers


def test_it_listens_where_it_is_told(start: Start) -> None:
    container = start(options=("--env", "PORT=8080")).ready(port=8080)
    assert container.get("/version")[0] == 0
    assert "200" in container.run("praetor-container", "health")


@pytest.mark.parametrize(("trusted", "client"), [("", f"{NETWORK}.1"), (f"{NETWORK}.0/24", "203.0.113.7")])
def test_only_trusted_proxies_say_who_the_client_is(start: Start, trusted: str, client: str) -> None:
    container = start(options=("--env", f"TRUSTED_PROXIES={trusted}")).ready()
    assert container.get("/version?asked", 80, "--header", "X-Forwarded-For: 203.0.113.7")[0] == 200
    docker("stop", "--time", "30", container.name)
    [found] = [line["client"] for line in container.said() if line.get("uri") == "/version?asked"]
    assert found == client
