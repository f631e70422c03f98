"""Who is told of a release, and the commands around it: by a web server, a mail server and programs that really get it."""

from __future__ import annotations

import email
import email.policy
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosmtpd.controller
import pytest
import yaml
from project import ROOT

from praetor.inventory.notices import EVENTS, Hooks, Mail, Notice, check
from praetor.run import notices
from praetor.run.notices import Event, commits, environment, run_hooks, since, tell

EVENT: Event = {
    "event": "success",
    "action": "release",
    "app": "shop",
    "release": "1.5.0-9d70c6d9",
    "before": "1.4.0-5e0b9c1d",
    "hosts": ["app1", "app2"],
    "commits": ["c0ffee1 Sell nails", "c0ffee2 Sell screws"],
    "reason": "",
    "by": "ops@control",
    "why": "spring",
    "inventory": "inventories/prod",
    "time": "2026-03-01T09:00:00Z",
    "duration_s": 34,
    "history": "ansible-playbook playbooks/history.yml -i inventories/prod -e app=shop",
}
PATH = "/services/s3cret-path"


class Web:
    """A web server that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, dict[str, str], Any]] = []
        self.status = 200
        keep = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                keep.got.append((self.command, self.path, dict(self.headers), json.loads(body or b"null")))
                self.send_response(keep.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST = answer  # noqa: N815  http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Web()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Mails:
    """A mail server that keeps what it gets, or refuses it."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], email.message.EmailMessage]] = []
        self.answer = "250 taken"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.got.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        return self.answer


@pytest.fixture
def mails() -> Iterator[tuple[Mails, str]]:
    kept = Mails()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = aiosmtpd.controller.Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    yield kept, f"127.0.0.1:{port}"
    controller.stop()


def to(server: str) -> Notice:
    return Notice(
        mail=Mail(to=["team@example.org", "boss@example.org"], sender="praetor@example.org", server=server, tls="none")
    )


def test_each_kind_gets_who_what_and_the_commits_in_its_own_form(
    web: Web, mails: tuple[Mails, str], tmp_path: Path
) -> None:
    kept, server = mails
    script = tmp_path / "told"
    script.write_text('#!/bin/sh\ncat >"$1"\necho "$PRAETOR_HOOK $PRAETOR_RELEASE" >>"$1"\n')
    script.chmod(0o755)
    everybody = [
        Notice(webhook=web.url + PATH, headers={"Authorization": "Bearer t0ken"}),
        Notice(slack=f"{web.url}/slack"),
        Notice(grafana=f"{web.url}/grafana/", token="gr4fana"),  # noqa: S106  nobody's
        to(server),
        Notice(command=[str(script), "out"]),
    ]
    assert tell(everybody, EVENT, tmp_path) == []
    generic, slack, grafana = web.got
    assert (generic[0], generic[1], generic[3]) == ("POST", PATH, EVENT)
    assert generic[2]["Authorization"] == "Bearer t0ken"
    assert "shop 1.5.0-9d70c6d9 (was 1.4.0-5e0b9c1d) is live on app1, app2 after 34 s" in slack[3]["text"]
    assert "c0ffee1 Sell nails" in slack[3]["text"]
    assert grafana[1] == "/grafana/api/annotations"
    assert grafana[2]["Authorization"] == "Bearer gr4fana"
    assert grafana[3]["tags"] == ["shop", "success"]
    [(recipients, mail)] = kept.got
    assert recipients == ["team@example.org", "boss@example.org"]
    assert mail["Subject"] == "[shop] success: 1.5.0-9d70c6d9"
    assert "by ops@control - spring" in mail.get_content()
    assert "playbooks/history.yml -i inventories/prod -e app=shop" in mail.get_content()
    told, last = (tmp_path / "out").read_text().rsplit("}", 1)
    assert json.loads(told + "}") == EVENT
    assert last.strip() == "notify 1.5.0-9d70c6d9"


@pytest.mark.parametrize("event", EVENTS)
def test_only_who_wants_to_know_of_an_event_is_told(web: Web, event: str) -> None:
    some = Notice(webhook=web.url, events=["failure", "rollback"])
    assert tell([some], {**EVENT, "event": event}, ROOT) == []  # type: ignore[typeddict-item]
    assert len(web.got) == (event in {"failure", "rollback"})


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_web_server_that_does_not_take_it_is_named_without_its_secret_path(web: Web, status: int) -> None:
    web.status = status
    said = tell([Notice(webhook=web.url + PATH), Notice(slack=web.url + PATH)], EVENT, ROOT)
    assert said == [
        f"{kind} 127.0.0.1 was not told of the success: it answered {status}. The run goes on."
        for kind in ("webhook", "slack")
    ]
    assert [method for method, *_ in web.got] == ["POST", "POST"]


def test_who_is_dead_silent_or_broken_stops_nobody_else(
    web: Web, mails: tuple[Mails, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, server = mails
    words = ["refused", "no answer", "550", "refused", "", "no end within", "exit status 3: no room", "/nowhere/tell"]
    kept.answer = "550 not for us"
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dead, quiet = (f"127.0.0.1:{each.getsockname()[1]}" for each in (closed, silent))
        everybody = [
            Notice(webhook=f"http://{dead}{PATH}"),
            Notice(webhook=f"http://{quiet}{PATH}"),
            to(server),
            to(dead),
            to(quiet),
            Notice(command=["sleep", "60"]),
            Notice(command=["sh", "-c", "echo no room >&2; exit 3"]),
            Notice(command=["/nowhere/tell"]),
            Notice(webhook=web.url),
        ]
        # On a busy machine also those who answer may need longer.
        for patience in (0.3, 3, 15):
            monkeypatch.setattr(notices, "PATIENCE_S", patience)
            web.got.clear()
            said = tell(everybody, EVENT, ROOT)
            if len(said) == len(words) and all(word in line for word, line in zip(words, said, strict=True)):
                break
    assert [line for word, line in zip(words, said, strict=True) if word not in line] == []
    assert len(web.got) == 1
    assert all("The run goes on." in line and "s3cret" not in line for line in said), said


def test_a_hook_finds_what_it_is_about_and_the_first_that_fails_is_the_last(tmp_path: Path) -> None:
    script = ["sh", "-c", "env | grep ^PRAETOR_ | sort >told; pwd >>told"]
    assert run_hooks("after_release", [script, ["true"]], EVENT, tmp_path) == ""
    found = (tmp_path / "told").read_text()
    for line in (
        "PRAETOR_APP=shop",
        "PRAETOR_FROM=1.4.0-5e0b9c1d",
        "PRAETOR_HOOK=after_release",
        "PRAETOR_HOSTS=app1 app2",
        "PRAETOR_RESULT=live",
        "PRAETOR_COMMITS=c0ffee1 Sell nails",
        str(tmp_path),
    ):
        assert f"{line}\n" in found
    failing = [["sh", "-c", "echo the queue is full; exit 4"], ["touch", "never"]]
    said = run_hooks("before_release", failing, EVENT, tmp_path)
    assert said.startswith("hook before_release: 'sh -c ")
    assert said.endswith("failed with exit status 4\nthe queue is full")
    assert not (tmp_path / "never").exists()
    assert "No such file" in run_hooks("failure", [["/nowhere/x"]], EVENT, tmp_path)


def test_every_variable_key_and_event_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "notices.md").read_text(encoding="utf-8")
    names = {name for name in environment(EVENT, "x") if name.startswith("PRAETOR_") and name not in os.environ}
    keys = {*Notice.model_fields, *Mail.model_fields, *Hooks.model_fields, *EVENT, *EVENTS}
    assert {name for name in names | keys if f"`{name}`" not in page} == set()
    [example] = page.split("```yaml\n")[1:]
    given = yaml.safe_load(re.sub(r"{{ \w+ }}", "https://example.org", example.partition("```")[0]))
    assert check(given["release_notify"], given["release_hooks"]) == []


@pytest.mark.parametrize(
    ("notify", "hooks", "expected"),
    [
        ({"webhook": "https://x"}, None, "release_notify: found a mapping, expected a list of who is told"),
        (
            [{"webhok": "https://x"}],
            None,
            "release_notify[0].webhok: found an unknown key, expected one of events, webhook,",
        ),
        ([{"webhok": "https://x"}], None, "did you mean webhook?"),
        (
            [{"events": ["start"]}],
            None,
            "release_notify[0]: found none of them, expected exactly one of webhook, slack,",
        ),
        ([{"slack": "https://x", "command": "a"}], None, "release_notify[0]: found slack and command together"),
        (
            [{"webhook": "ftp://s3cret"}],
            None,
            "release_notify[0].webhook: found a string that is not shown, expected an address",
        ),
        (
            [{"slack": "https://x", "events": ["strat"]}],
            None,
            "release_notify[0].events[0]: found a string that is not shown, expected one of",
        ),
        ([{"slack": "https://x", "events": []}], None, "release_notify[0].events: found an empty list"),
        ([{"slack": "https://x", "headers": {"A": "b"}}], None, "release_notify[0].headers: found it without webhook"),
        ([{"grafana": "https://x"}], None, "release_notify[0].token: found nothing"),
        (
            [{"mail": {"to": [], "sender": "a@b", "server": "x"}}],
            None,
            "release_notify[0].mail.to: found an empty list",
        ),
        ([{"mail": {"to": ["a@b"], "server": "x"}}], None, "release_notify[0].mail.sender: found nothing"),
        (
            [{"mail": {"to": ["a@b"], "sender": "a@b", "server": "x", "user": "u"}}],
            None,
            "release_notify[0].mail: found one of user and password, expected both or none",
        ),
        (
            [{"mail": {"to": ["a@b"], "sender": "a@b", "server": "x", "user": "u", "password": "p", "tls": "none"}}],
            None,
            "release_notify[0].mail.tls: found none with a password",
        ),
        (None, ["x"], "release_hooks: found a list, expected a mapping with the keys before_build"),
        (None, {"before_relase": ["a"]}, "release_hooks.before_relase: found an unknown key"),
        (
            None,
            {"failure": "a"},
            "release_hooks.failure: found a string that is not shown, expected a list of commands",
        ),
        (
            None,
            {"failure": ["a | b"]},
            "release_hooks.failure[0]: found a string that is not shown (no shell runs commands",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_no_value(notify: Any, hooks: Any, expected: str) -> None:
    said = "\n".join(check(notify, hooks))
    assert expected in said
    assert "s3cret" not in said


def test_commits_are_those_between_both_releases(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    made = []
    for number in range(3):
        (tmp_path / "file").write_text(str(number))
        git("add", "file")
        git("commit", "--quiet", "-m", f"Change {number}")
        made.append(git("rev-parse", "HEAD"))
    assert [each.split(" ", 1)[1] for each in commits(tmp_path, made[0], made[2])] == ["Change 2", "Change 1"]
    assert (
        commits(tmp_path, made[0], "0" * 40)
        == commits(tmp_path, None, made[0])
        == commits(tmp_path / "no", "a", "b")
        == []
    )


def test_how_long_a_run_takes_is_counted_from_its_id() -> None:
    assert since("20260301T090000Z-abcdef", 1772355634.2) == 34


PLAYBOOK: list[dict[str, Any]] = [
    {
        "name": "Tell",
        "hosts": "all",
        "gather_facts": False,
        "vars": {
            "this": {"app": "shop", "id": "1.5", "manifest": {"commit": None}},
            "run": {
                "id": "20260301T090000Z-abcdef",
                "action": "release",
                "why": "",
                "owner": {"user": "o", "host": "h"},
            },
        },
        "tasks": [
            {
                "name": "Tell of the {{ item }}",
                "app_notice": {
                    "event": "{{ item }}",
                    "release": "{{ this }}",
                    "run": "{{ run }}",
                    "register": "seen",
                    "apps": [],
                    "root": str(ROOT),
                    "failure": "{{ {'what': 'gate failed on two', 'reasons': {'two': 'no answer'}} if item == 'failure' else {} }}",
                },
                "run_once": True,
                "loop": ["start", "success", "failure"],
            }
        ],
    }
]


@pytest.mark.parametrize(
    ("hooks", "flags", "status", "events"),
    [
        ({}, [], 0, ["start", "success", "failure"]),
        ({"after_release": ["false"], "failure": ["false"]}, [], 0, ["start", "success", "failure"]),
        ({"before_release": ["sh -c 'echo the queue is full; exit 4'"]}, [], 2, ["failure", "success", "failure"]),
        ({"before_release": ["false"]}, ["--check"], 0, []),
    ],
)
def test_a_run_tells_and_only_a_hook_before_it_ends_it(
    web: Web, tmp_path: Path, hooks: dict[str, list[str]], flags: list[str], status: int, events: list[str]
) -> None:
    (tmp_path / "try.yml").write_text(yaml.safe_dump(PLAYBOOK))
    programs = Path(sys.executable).parent
    vault = [str(programs / "ansible-vault"), "encrypt_string", "--name", "address", f"{web.url}{PATH}"]
    settings = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    address = subprocess.run(vault, cwd=ROOT, env=settings, capture_output=True, text=True, check=True).stdout
    given = {
        "release_notify": [{"webhook": "{{ address }}"}],
        "release_hooks": hooks,
        "seen": {"apps": {"shop": {"live": "1.4", "manifest": {"commit": None}}}},
    }
    (tmp_path / "given.yml").write_text(f"{address}\n{yaml.safe_dump(given)}")
    command = [
        str(programs / "ansible-playbook"),
        str(tmp_path / "try.yml"),
        "-i",
        "one,two,",
        "-e",
        f"@{tmp_path}/given.yml",
    ]
    done = subprocess.run([*command, *flags], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert [body["event"] for *_, body in web.got] == events
    for _, path, _, body in web.got:
        assert path == PATH
        assert (body["app"], body["release"], body["before"], body["hosts"]) == ("shop", "1.5", "1.4", ["one", "two"])
    said = " ".join((done.stdout + done.stderr).split())
    assert "s3cret" not in said
    if status:
        assert "failed with exit status 4. No host was changed. the queue is full" in said
        assert web.got[0][3]["reason"].startswith("hook before_release: 'sh -c ")
    if "failure" in hooks:
        assert said.count("failed with exit status 1. The run goes on.") == 2
    if events and not status:
        assert web.got[2][3]["reason"] == "gate failed on two: no answer"
