"""One request's way through NGINX and app: read from real files, merged over hosts, and shown without harm to the reader."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from praetor.documents import LogLine
from praetor.host.layout import ReleaseError
from praetor.host.requests import access_entries, journal_entries, parse_since
from praetor.run.requests import merge, render

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
        f"1970-01-01 00:00:01.500  app1  nginx  200 GET /x  0.2 s, app 0.1 s, 5 bytes to 192.0.2.1  {ID}"
    )
    said = {"level": "error", "message": "no", "path": "/x", "exception": "Traceback\nBoom"}
    shown = render({"ts": 2.0, "host": "app1", "source": "app", "said": said})
    assert shown.splitlines() == [
        "1970-01-01 00:00:02.000  app1  app    error no  path=/x",
        "    Traceback",
        "    Boom",
    ]


def test_what_a_client_wrote_cannot_move_the_cursor() -> None:
    said = json.loads(access(1, uri="/\x1b[2J\r\n"))
    shown = render({"ts": 1.0, "host": "a", "source": "nginx", "said": said})
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert len(shown.splitlines()) == 1
