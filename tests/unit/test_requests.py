"""One request's way through NGINX and app: read from real files, merged over hosts, and shown without harm to the reader."""

import gzip
import json
from pathlib import Path
from typing import Any, Self

import pytest

from praetor.documents import LogLine
from praetor.host.layout import ReleaseError
from praetor.host.requests import access_entries, archive_entries, journal_entries, parse_since, read_archive, work
from praetor.run.requests import merge, render, silent, unknown

ID = "0123456789abcdef"


def access(at: float, request_id: str = ID, **more: Any) -> str:
    """Return a line of the access log."""
    said = {"ts": at, "request_id": request_id, "method": "GET", "uri": "/x", "status": 200, "request_time_s": 0.2}
    return json.dumps({**said, "upstream_time_s": "0.1", "bytes": 5, "client": "192.0.2.1", **more}) + "\n"


def journal(at: float, message: Any) -> str:
    """Return a line of journalctl."""
    said = message if isinstance(message, str | list) else json.dumps(message)
    return json.dumps({"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": said}) + "\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 910.0),
        ("2m", 880.0),
        ("1d", -85400.0),
        ("1970-01-01T00:10:00", 600.0),
        ("1970-01-01 01:10:00+01:00", 600.0),
    ],
)
def test_a_time_is_written_as_an_operator_would(text: str, expected: float) -> None:
    assert parse_since(text, 1000.0) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5 weeks"])
def test_a_time_that_is_none_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ReleaseError, match="expected a time ago, like 15m"):
        parse_since(text, 1000.0)


def test_rotated_and_compressed_logs_are_read_and_broken_lines_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(access(30) + "garbage " + ID + "\n" + access(31, "other"))
    (tmp_path / "a.1").write_text(access(20))
    with gzip.open(tmp_path / "a.2.gz", "wt") as file:
        file.write(access(10))
    paths = [tmp_path / name for name in ("a", "a.1", "a.2.gz", "gone")]
    assert [entry["ts"] for entry in access_entries(paths, 0, ID)] == [30, 20, 10]
    assert [entry["ts"] for entry in access_entries(paths, 15, "")] == [30, 31, 20]


def test_an_id_in_another_field_is_not_the_requests_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(access(1, "other", uri=f"/?{ID}"))
    assert list(access_entries([tmp_path / "a"], 0, ID)) == []


def test_what_a_client_sent_in_another_encoding_is_shown_by_the_host_and_by_the_archive(tmp_path: Path) -> None:
    line = access(7, user_agent="M@ller").encode().replace(b"@", b"\xfc")
    (tmp_path / "a").write_bytes(line)
    with gzip.open(tmp_path / "a.2.gz", "wb") as file:
        file.write(line)
    record = {"__REALTIME_TIMESTAMP": "7000000", "MESSAGE": list(line[:-1]), "_HOSTNAME": "web1"}
    sent = json.dumps(record | {"_SYSTEMD_UNIT": "nginx.service"})
    found = [*access_entries([tmp_path / "a", tmp_path / "a.2.gz"], 0, ID), *archive_entries([sent], ["web1"], 0, ID)]
    assert [entry["said"]["user_agent"] for entry in found if isinstance(entry["said"], dict)] == ["M\ufffdller"] * 3


def test_an_apps_json_has_its_own_time_and_other_lines_are_text() -> None:
    event = {"ts": "1970-01-01T00:00:05.500+00:00", "level": "info", "message": "hi", "request_id": ID}
    lines = [journal(9, event), journal(10, "plain"), journal(11, [104, 105]), "broken\n", journal(12, "3")]
    found = list(journal_entries(lines, 0, ""))
    assert [(entry["ts"], entry["said"]) for entry in found] == [(5.5, event), (10, "plain"), (11, "hi"), (12, "3")]
    assert [entry["said"] for entry in journal_entries(lines, 0, ID)] == [event]
    assert [entry["ts"] for entry in journal_entries(lines, 10.5, "")] == [11, 12]


def test_lines_of_all_hosts_are_in_time_order() -> None:
    one, two, three = (LogLine(ts=ts, source="app", said="") for ts in (1.0, 2.0, 3.0))
    merged = merge({"app1": [one, three], "app2": [two]})
    assert [(entry["ts"], entry["host"]) for entry in merged] == [(1.0, "app1"), (2.0, "app2"), (3.0, "app1")]


def test_a_reader_sees_when_where_and_what() -> None:
    nginx: LogLine = {"ts": 1.5, "host": "app1", "source": "nginx", "said": json.loads(access(1.5))}
    assert render(nginx) == (
        f"1970-01-01 00:00:01.500  app1  nginx    200 GET /x  0.2 s, app 0.1 s, 5 bytes to 192.0.2.1  {ID}"
    )
    said = {"level": "error", "message": "no", "path": "/x", "exception": "Traceback\nBoom"}
    shown = render({"ts": 2.0, "host": "app1", "source": "app", "said": said})
    assert shown.splitlines() == [
        "1970-01-01 00:00:02.000  app1  app      error no  path=/x",
        "    Traceback",
        "    Boom",
    ]


def test_what_a_client_wrote_cannot_move_the_cursor() -> None:
    said = json.loads(access(1, uri="/\x1b[2J\r\n"))
    shown = render({"ts": 1.0, "host": "a", "source": "nginx", "said": said})
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert len(shown.splitlines()) == 1


def sent(at: float, host: str, message: Any, unit: str = "uwsgi-emperor@api-1.service") -> str:
    """Return a line of the archive."""
    return json.dumps({**json.loads(journal(at, message)), "_HOSTNAME": host, "_SYSTEMD_UNIT": unit}) + "\n"


def test_the_archive_has_an_apps_lines_and_nginx_s_under_the_inventorys_name_of_a_host() -> None:
    own = {"ts": "1970-01-01T00:00:05.500+00:00", "message": "hi", "request_id": ID}
    at_nginx = json.loads(access(4))
    lines = [
        sent(9, "app2", own),
        sent(8, "app2", at_nginx, "nginx.service"),
        sent(7, "app3", own),  # it answers itself, or nobody asked for it
        sent(6, "app2.example.org", "plain"),
        "broken\n",
    ]
    found = list(archive_entries(lines, ["app2.example.org"], 0, ""))
    assert [(entry["ts"], entry["source"], entry["host"]) for entry in found] == [
        (5.5, "app", "app2.example.org"),
        (4, "nginx", "app2.example.org"),
        (6, "app", "app2.example.org"),
    ]
    assert [entry["ts"] for entry in archive_entries(lines, ["app2.example.org"], 5, ID)] == [5.5]
    assert render(found[1]).startswith("1970-01-01 00:00:04.000  app2.example.org  nginx    200 GET /x")


def test_a_line_that_was_sent_twice_is_shown_once() -> None:
    at_nginx = {**json.loads(access(4)), "uri": "/\udcff"}
    raw = list(json.dumps(at_nginx).encode())  # journald's way to say bytes
    lines = [
        sent(at, host, said, "nginx.service")
        for said in (json.loads(access(4)), raw)
        for at, host in ((8, "a"), (9, "b"), (9.5, "a"))
    ]
    own = {"ts": "1970-01-01T00:00:05.500+00:00", "message": "hi", "request_id": ID}
    lines += [sent(9, "a", own)] * 2  # an app may say a thing twice
    found = [(entry["source"], entry["host"]) for entry in archive_entries(lines, ["a", "b"], 0, "")]
    assert found == [("nginx", "a"), ("nginx", "b")] * 2 + [("app", "a")] * 2


def test_lines_of_an_archive_keep_their_host() -> None:
    line: LogLine = {"ts": 1.0, "source": "app", "said": "", "host": "app2"}
    assert [entry["host"] for entry in merge({"app1": [], "mon1": [line]})] == ["app2"]


def test_a_host_that_does_not_answer_is_named_with_where_its_lines_are_from() -> None:
    seen: Any = {"app1": {"entries": []}, "app2": {"away": "no route to host"}}
    assert silent(seen, "mon1") == [
        "app2 does not answer (no route to host): its lines are those that mon1 had got from it"
    ]
    assert "no monitoring host keeps its journal" in silent(seen, "")[0]
    assert silent(seen, "mon1", "no power") == [
        "app2 does not answer (no route to host): mon1, which keeps its lines, does not answer either (no power), so they are missing here"
    ]


def test_the_archive_is_asked_for_all_that_runs_in_the_apps_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    class Journal:
        stdout = (sent(9, "app2", "one"), sent(3, "app2", "late"))

        def __init__(self, command: list[str], **_: Any) -> None:
            asked.append(command)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("praetor.host.requests.subprocess.Popen", Journal)
    assert [entry["said"] for entry in read_archive("api", ["app2"], 0, "")] == ["late", "one"]
    assert "_SYSTEMD_SLICE=apps-api.slice" in asked[0]
    assert "--directory=/var/log/journal/remote" in asked[0]
    assert "--all" in asked[0], "journalctl leaves out what is longer than 4096 bytes"


def test_a_balancers_lines_say_who_answered_and_who_did_not(tmp_path: Path) -> None:
    lines = [
        {
            "ts": 5.5,
            "request_id": ID,
            "app": "api",
            "status": 200,
            "method": "GET",
            "uri": "/a",
            "server": "app2",
            "retries": "+1",
        }
        | {"request_time_s": 1.5, "queue_time_s": 0, "bytes": 9, "client": "192.0.2.1"},
        {"ts": 6.5, "request_id": "another-id", "app": "api"},
        {"ts": 7.5, "request_id": ID, "app": "shop"},
    ]
    (tmp_path / "access.log").write_text("".join(json.dumps(line) + "\n" for line in [*lines, "[NOTICE] no request"]))
    asked: Any = {"app": "api", "since": "1970-01-01", "request_id": ID, "by": "haproxy", "logs": str(tmp_path)}
    (entry,) = work(**asked)["entries"]
    assert render({**entry, "host": "lb1"}) == (
        "1970-01-01 00:00:05.500  lb1  haproxy  200 GET /a  by app2 after 1 in vain, 1.5 s, waited 0 s, "
        f"9 bytes to 192.0.2.1  {ID}"
    )


def test_a_host_that_nobody_knows_is_named() -> None:
    said = unknown("web11", ["web1", "lb1"], [], "mon1")
    assert said.startswith("-e host=web11: the inventory has no such app host or balancer, and mon1 has no line of one")
    assert said.endswith("did you mean web1?")
    assert unknown("q", ["web1", "lb1"], [], "").endswith("expected one of: web1, lb1")
    assert "no monitoring host keeps" in unknown("q", ["web1", "lb1"], [], "")
    assert "mon1, which may have lines of one, does not answer (no power);" in unknown(
        "q", ["web1"], [], "mon1", (), "no power"
    )


def test_a_host_that_the_run_is_limited_away_from_is_not_called_unknown() -> None:
    said = unknown("web2", ["web1"], [], "mon1", {"web1", "web2"})
    assert said == (
        "-e host=web2: --limit leaves web2 out of this run, and -e host=... already asks one host alone; run it without --limit"
    )
    assert "no such app host" in unknown("web3", ["web1"], [], "mon1", {"web1", "web2"})


def test_a_host_that_left_is_known_by_its_lines() -> None:
    line: Any = {"ts": 1.0, "host": "web9", "source": "nginx", "said": "x"}
    assert unknown("web9", ["web1"], [line], "mon1") == ""
    assert unknown("web1", ["web1"], [], "mon1") == unknown("", ["web1"], [], "mon1") == ""
