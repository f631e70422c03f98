"""What the exporter says of sites, certificates and deploys: NGINX's own lines, real certificates, and what is broken among them."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families

from app_exporter.access_log import AccessLogs
from app_exporter.certificates import add_certificates, earliest_end
from app_exporter.exposition import Exposition
from app_exporter.problems import BrokenError, Problems
from app_exporter.releases import MARKERS, add_history

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def line(status: str = "200", took: str = "0.003", upstream: str = "0.002", uri: str = "/") -> str:
    """Return a line of the access log as NGINX writes it."""
    return (
        f'{{"ts":1795362659.123,"request_id":"abc","method":"GET","uri":{json.dumps(uri)},"status":{status},"request_time_s":{took},'
        f'"upstream_time_s":"{upstream}","upstream_connect_time_s":"0.000","upstream_status":"{status}","bytes":500,"request_bytes":90,'
        '"client":"192.0.2.1","user_agent":"x"}\n'
    )


def samples(exposition: Exposition) -> Samples:
    """Return what Prometheus makes of it."""
    families = text_string_to_metric_families(exposition.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def figures(logs: AccessLogs, problems: Problems | None = None) -> Samples:
    """Look at the logs, and return the figures."""
    logs.poll()
    exposition = Exposition()
    logs.write(exposition, problems or Problems())
    return samples(exposition)


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample of the site."""
    return f"nginx_site_{name}", frozenset({"app": "api", **labels}.items())


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    path = tmp_path / "api.access.log"
    path.write_text(line() * 3)
    return path


@pytest.fixture(name="logs")
def _logs(log: Path) -> AccessLogs:
    logs = AccessLogs(log.parent)
    logs.poll()
    return logs


def append(path: Path, text: str) -> None:
    """Write as NGINX does."""
    with path.open("a") as file:
        file.write(text)


def test_what_was_logged_before_is_not_counted_and_every_class_begins_at_zero(logs: AccessLogs) -> None:
    seen = figures(logs)
    assert {seen[key("requests_total", code=code)] for code in ("1xx", "2xx", "3xx", "4xx", "5xx")} == {0}


def test_requests_are_counted_by_class_time_and_bytes(log: Path, logs: AccessLogs) -> None:
    append(log, line() + line("503", "0.500", "-") + line("404", "2.000", "1.000, 0.500") + line("0", "0.000", "-"))
    seen = figures(logs)
    counts = {"2xx": 1, "5xx": 1, "4xx": 1, "3xx": 0, "other": 1}
    assert {code: seen[key("requests_total", code=code)] for code in counts} == counts
    below = {"0.005": 2, "0.25": 2, "0.5": 3, "1": 3, "2.5": 4, "+Inf": 4}
    assert {le: seen[key("request_duration_seconds_bucket", le=le)] for le in below} == below
    assert seen[key("request_duration_seconds_sum")] == 2.503
    assert seen[key("upstream_duration_seconds_count")] == 2, (
        "a request that never got to the application has no time there"
    )
    assert seen[key("upstream_duration_seconds_sum")] == 1.502
    assert (seen[key("response_bytes_total")], seen[key("request_bytes_total")]) == (2000, 360)


def test_a_line_that_is_still_being_written_is_counted_once_it_is_whole(log: Path, logs: AccessLogs) -> None:
    append(log, line()[:100])
    assert figures(logs)[key("requests_total", code="2xx")] == 0
    append(log, line()[100:])
    assert figures(logs)[key("requests_total", code="2xx")] == 1


def test_what_a_client_writes_is_not_taken_for_nginx(log: Path, logs: AccessLogs) -> None:
    append(log, line(uri='/?"status":500,"request_time_s":9.9,"upstream_time_s":"9.9","bytes":1,"request_bytes":1'))
    seen = figures(logs)
    assert (seen[key("requests_total", code="2xx")], seen[key("requests_total", code="5xx")]) == (1, 0)
    assert seen[key("request_duration_seconds_sum")] == 0.003


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(log: Path, logs: AccessLogs) -> None:
    append(log, line())
    log.rename(log.with_suffix(".log.1"))
    assert figures(logs)[key("requests_total", code="2xx")] == 1
    log.write_text("")
    append(log.with_suffix(".log.1"), line())  # NGINX was not yet told
    assert figures(logs)[key("requests_total", code="2xx")] == 2
    append(log, line() * 2)
    assert figures(logs)[key("requests_total", code="2xx")] == 4


def test_a_log_that_is_emptied_in_its_place_is_read_anew(log: Path, logs: AccessLogs) -> None:
    log.write_text(line())
    assert figures(logs)[key("requests_total", code="2xx")] == 1


def test_a_site_that_is_new_is_counted_from_its_first_line(log: Path, logs: AccessLogs) -> None:
    (log.parent / "shop.access.log").write_text(line())
    (log.parent / "Not-An-App.access.log").write_text(line())
    seen = figures(logs)
    assert {dict(labels)["app"] for _, labels in seen} == {"api", "shop"}
    assert seen["nginx_site_requests_total", frozenset({("app", "shop"), ("code", "2xx")})] == 1


def test_lines_that_are_not_nginxs_are_named_and_the_rest_is_counted(log: Path, logs: AccessLogs) -> None:
    problems = Problems()
    append(log, "garbage\n" + line() + '{"status":"x"}\n')
    assert figures(logs, problems)[key("requests_total", code="2xx")] == 1
    assert problems.counts == {("api", "access_log", "api.access.log"): 1}
    figures(logs, problems)
    assert problems.counts == {("api", "access_log", "api.access.log"): 1}, "told once"


def test_a_log_that_cannot_be_opened_is_named(log: Path, tmp_path: Path) -> None:
    problems = Problems()
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text(line())
    seen = figures(AccessLogs(tmp_path), problems)
    assert ("api", "access_log", "api.access.log") in problems.counts
    assert seen[key("requests_total", code="2xx")] == 0


def test_a_log_that_can_be_read_again_is_counted_from_then_on(log: Path, tmp_path: Path) -> None:
    logs = AccessLogs(tmp_path)
    log.rename(tmp_path / "elsewhere")
    log.symlink_to(tmp_path / "elsewhere")
    logs.poll()
    (tmp_path / "elsewhere").replace(log)
    logs.poll()
    append(log, line())
    assert figures(logs)[key("requests_total", code="2xx")] == 1


def certificate(path: Path, *ends: dt.datetime) -> None:
    """Write a chain of certificates that end then."""
    key_pair = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app1")])
    path.parent.mkdir(parents=True, exist_ok=True)
    text = b""
    for end in ends:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key_pair.public_key())
        built = builder.serial_number(7).not_valid_before(end - dt.timedelta(days=1)).not_valid_after(end)
        text += built.sign(key_pair, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    path.write_bytes(b"a comment\n" + text)


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2100])
def test_the_end_of_a_certificate_is_read(tmp_path: Path, year: int) -> None:
    end = dt.datetime(year, 12, 24, 18, 30, 5, tzinfo=dt.UTC)
    certificate(tmp_path / "cert.pem", end)
    assert earliest_end(tmp_path / "cert.pem") == end.timestamp()


def test_of_a_chain_the_first_end_counts(tmp_path: Path) -> None:
    first, last = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2027, 2031))
    certificate(tmp_path / "cert.pem", last, first)
    assert earliest_end(tmp_path / "cert.pem") == first.timestamp()


BROKEN = [
    b"",
    b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    b"-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----",
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_certificate_is_named_and_the_others_are_served(tmp_path: Path, text: bytes) -> None:
    end = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    certificate(tmp_path / "host/cert.pem", end)
    certificate(tmp_path / "sites/shop/fullchain.pem", end)
    (tmp_path / "sites/api").mkdir()
    (tmp_path / "sites/api/fullchain.pem").write_bytes(text)
    exposition, problems = Exposition(), Problems()
    add_certificates(tmp_path, exposition, problems)
    name = "praetor_certificate_not_after_timestamp_seconds"
    assert samples(exposition) == {
        (name, frozenset({("certificate", "host")})): end.timestamp(),
        (name, frozenset({("app", "shop")})): end.timestamp(),
    }
    assert problems.counts == {("api", "certificate", "api/fullchain.pem"): 1}


@pytest.mark.parametrize("cut", [10, 60, 120])
def test_a_certificate_that_is_cut_off_is_broken(tmp_path: Path, cut: int) -> None:
    certificate(tmp_path / "cert.pem", dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    lines = (tmp_path / "cert.pem").read_bytes().splitlines()
    (tmp_path / "cert.pem").write_bytes(b"\n".join([*lines[:2], lines[2][:cut], lines[-1]]))
    with pytest.raises(BrokenError):
        earliest_end(tmp_path / "cert.pem")


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """Return an entry of a history."""
    at = dt.datetime.fromtimestamp(1795363000 + number, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {
        "ts": at,
        "action": "release",
        "from": f"{number}",
        "to": f"{number + 1}",
        "result": "ok",
        "by": "ann@desk",
    }
    return {**values, "duration_s": 1.0, **changes}


def test_every_release_and_rollback_is_a_marker_with_from_to_and_who(tmp_path: Path) -> None:
    past = [
        entry(1),
        entry(2, result="failed", by="bob@desk"),
        {"ts": "2026-11-22T16:00:00Z", "action": "migrate", "result": "ok"},
        entry(3, action="rollback"),
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in past))
    exposition = Exposition()
    add_history("api", tmp_path, exposition)
    found = {
        tuple(dict(labels)[name] for name in ("action", "from", "to", "result", "by")): value
        for (name, labels), value in samples(exposition).items()
        if name == "praetor_deploy_timestamp_seconds"
    }
    assert found == {
        ("release", "1", "2", "ok", "ann@desk"): 1795363001,
        ("release", "2", "3", "failed", "bob@desk"): 1795363002,
        ("rollback", "3", "4", "ok", "ann@desk"): 1795363003,
    }


def test_markers_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(entry(n)) + "\n" for n in range(100)))
    exposition = Exposition()
    add_history("api", tmp_path, exposition)
    times = sorted(
        value for (name, _), value in samples(exposition).items() if name == "praetor_deploy_timestamp_seconds"
    )
    assert times == [1795363100.0 - n for n in range(MARKERS, 0, -1)]
