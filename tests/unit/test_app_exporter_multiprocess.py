"""The applications' own metrics: files of the real prometheus_client, against its own collector; corrupted, hostile, growing."""

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from scraped import LABELS, RELEASE, SLOT, Host, Samples, key

PROGRAM = """
requests = Counter("demo_requests", "Requests.", ["method"])
requests.labels("GET").inc({get})
requests.labels("POST").inc(2)
duration = Histogram("demo_duration_seconds", "Time.", ["route"], buckets=(0.1, 1, 5))
for value in {times}:
    duration.labels("/").observe(value)
size = Summary("demo_size_bytes", "Size."); size.observe(10); size.observe(5)
for mode in ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"):
    Gauge("demo_" + mode, "A gauge.", ["part"], multiprocess_mode=mode).labels("a").set({level})
"""


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host with a slot whose stats server answers."""
    made = Host(tmp_path_factory.mktemp("h"))
    made.stats_server(json.dumps({"load": 0, "workers": []}).encode())
    yield made
    for connection in made.open:
        connection.close()


def own(samples: Samples) -> Samples:
    """Return the samples that an application wrote."""
    return {
        name: value
        for name, value in samples.items()
        if not name[0].startswith(("uwsgi_", "praetor_", "app_exporter_"))
    }


def collected(directory: Path) -> Samples:
    """Return what prometheus_client itself makes of the files, with the slot's labels."""
    collector: Any = MultiProcessCollector(CollectorRegistry(), path=str(directory))  # type: ignore[no-untyped-call]
    return {
        (sample.name, frozenset({**LABELS, **sample.labels}.items())): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def entry(name: Any, value: float = 1.0, *, timestamp: bool = True, sample: Any = None, labels: Any = None) -> bytes:
    """Return an entry of a metrics file, as prometheus_client writes it, or any other key."""
    text = name if isinstance(name, bytes) else json.dumps([name, sample or name, labels or {}, "Help."]).encode()
    padded = text + b" " * (8 - (len(text) + 4) % 8)
    return struct.pack(f"<i{len(padded)}sd", len(text), padded, value) + (struct.pack("<d", 0.0) if timestamp else b"")


def file(host: Host, name: str, *entries: bytes, used: int | None = None) -> Path:
    """Write a metrics file."""
    directory = host.slots / f"{SLOT}.metrics"
    directory.mkdir(exist_ok=True)
    data = b"".join(entries)
    path = directory / name
    path.write_bytes((struct.pack("<ii", len(data) + 8 if used is None else used, 0) + data).ljust(4096, b"\0"))
    return path


def test_the_sum_over_workers_is_that_of_prometheus_client(host: Host) -> None:
    # The most recent file is not the last by name.
    host.metrics(PROGRAM.format(get=4, times=(0.5, 2), level=4), "w2")
    host.metrics(PROGRAM.format(get=3, times=(0.05, 0.5, 30), level=7), "w1")
    directory = host.metrics("Counter('demo_only_here', 'One worker has it.').inc(2)", "w10")
    samples = host.scrape()
    assert own(samples) == collected(directory)
    assert samples[key("demo_requests_total", method="GET")] == 7
    assert samples[key("demo_duration_seconds_count", route="/")] == 5
    assert samples[key("demo_all", part="a", pid="w2")] == 4
    assert samples[key("demo_mostrecent", part="a")] == 7
    assert host.errors(samples) == {}


def test_a_file_that_grows_is_read_again(host: Host) -> None:
    directory = host.metrics("Counter('demo_one', 'One.').inc(1)")
    assert host.scrape()[key("demo_one_total")] == 1
    host.metrics("Counter('demo_one', 'One.').inc(4); Counter('demo_two', 'Two.', ['a']).labels('b').inc()")
    samples = host.scrape()
    assert own(samples) == collected(directory)
    assert samples[key("demo_one_total")] == 5


def test_a_file_that_is_made_anew_is_read_anew(host: Host) -> None:
    path = file(host, "counter_w1.db", entry("demo_one", 5, sample="demo_one_total"))
    assert own(host.scrape()) == {key("demo_one_total"): 5}
    path.rename(path.with_suffix(".old"))
    file(host, "counter_w1.db", entry("demo_two", 6, sample="demo_two_total"))
    assert own(host.scrape()) == {key("demo_two_total"): 6}


def test_files_of_clients_before_0_17_are_read(host: Host) -> None:
    entries = [
        entry(name, value, timestamp=False, sample=f"{name}_total") for name, value in (("demo_a", 3), ("demo_b", 4))
    ]
    file(host, "counter_w1.db", *entries)
    file(host, "counter_w2.db", *entries)
    samples = host.scrape()
    assert own(samples) == {key("demo_a_total"): 6, key("demo_b_total"): 8}
    assert host.errors(samples) == {}


def test_slots_of_one_release_stay_apart_and_end_without_a_trace(host: Host) -> None:
    second = f"api.{RELEASE}.2"
    host.metrics("Counter('demo_one', 'One.').inc(1)")
    directory = host.metrics("Counter('demo_one', 'One.').inc(2)", slot=second)
    samples = host.scrape()
    assert samples[key("demo_one_total")] == 1
    assert samples[key("demo_one_total", slot=second)] == 2
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    assert own(host.scrape()) == {key("demo_one_total"): 1}
    assert set(host.exporter._metrics) == {SLOT}


@pytest.mark.parametrize(
    ("name", "entries", "used"),
    [
        ("counter_w9.db", [entry("demo_x", sample="demo_x_total")], 4),
        ("counter_w9.db", [entry("demo_x", sample="demo_x_total")], 100000),
        ("counter_w9.db", [entry("demo_x", sample="demo_x_total")], -1),
        ("counter_w9.db", [entry("demo_x", sample="demo_x_total")[:-12]], None),
        ("counter_w9.db", [struct.pack("<i", -5) + bytes(28)], None),
        ("counter_w9.db", [struct.pack("<i", 1 << 30) + bytes(28)], None),
        ("counter_w9.db", [b"\xff" * 64], None),
        ("counter_w9.db", [entry(b"no JSON at all")], None),
        ("strange_w9.db", [entry("demo_x")], None),
        ("gauge_w9.db", [entry("demo_x")], None),
    ],
)
def test_a_corrupted_file_is_named_and_the_others_are_read(
    host: Host, name: str, entries: list[bytes], used: int | None
) -> None:
    file(host, "counter_w1.db", entry("demo_one", 5, sample="demo_one_total"))
    file(host, name, *entries, used=used)
    for count in (1, 2):
        samples = host.scrape()
        assert own(samples) == {key("demo_one_total"): 5}
        assert host.errors(samples) == {("metrics", f"{SLOT}.metrics/{name}"): count}


def test_a_file_that_is_just_being_made_is_no_error(host: Host) -> None:
    file(host, "counter_w1.db", used=0)
    (host.slots / f"{SLOT}.metrics" / "counter_w2.db").write_bytes(b"")
    samples = host.scrape()
    assert own(samples) == {}
    assert host.errors(samples) == {}


@pytest.mark.parametrize("used", [0, 9, 5000])
def test_a_file_that_breaks_keeps_its_last_figures_so_that_no_counter_seems_to_restart(host: Host, used: int) -> None:
    one = entry("demo_one", 5, sample="demo_one_total")
    path = file(host, "counter_w1.db", one)
    assert own(host.scrape()) == {key("demo_one_total"): 5}
    with path.open("r+b") as broken:
        broken.write(struct.pack("<i", used))
    samples = host.scrape()
    assert own(samples) == {key("demo_one_total"): 5}
    assert host.errors(samples) == {("metrics", f"{SLOT}.metrics/counter_w1.db"): 1}


@pytest.mark.parametrize(
    "bad",
    [
        entry("demo x", sample="demo x_total"),
        entry('demo_x{a="b"} 1\ndemo_y', sample="demo_y_total"),
        entry("demo_x", sample="demo_other_total"),
        entry("demo_x", sample="demo_x_total", labels={"a b": "c"}),
        entry("demo_x", sample="demo_x_total", labels=["a"]),
        entry("uwsgi_worker_requests", sample="uwsgi_worker_requests_total"),
        entry("praetor_live_up", sample="praetor_live_up"),
        entry(b"[1, 2, 3, 4]"),
        entry(b"[" * 3000),
        entry(b'["demo_x", "demo_x_total", {}]'),
        entry(b'["demo_\xff", "demo_x_total", {}, ""]'),
    ],
)
def test_a_key_that_is_no_series_is_left_out_and_named_at_every_scrape(host: Host, bad: bytes) -> None:
    file(host, "counter_w1.db", entry("demo_one", 5, sample="demo_one_total"), bad)
    for count in (1, 2):
        samples = host.scrape()
        assert own(samples) == {key("demo_one_total"): 5}
        assert list(host.errors(samples).values()) == [count]


@pytest.mark.parametrize("bound", ["abc", "nan", None, ["1"]])
def test_a_bucket_without_a_bound_is_left_out_and_named(host: Host, bound: Any) -> None:
    labels = {} if bound is None else {"le": bound}
    file(host, "histogram_w1.db", entry("demo_x", sample="demo_x_bucket", labels=labels))
    samples = host.scrape()
    assert own(samples) == {}
    assert len(host.errors(samples)) == 1


def test_labels_of_the_application_give_way_to_ours(host: Host) -> None:
    labels = {"app": "x", "exported_app": "y", "release": "z", "le": "w", "exported_le": "v"}
    file(host, "counter_w1.db", entry("demo_one", 5, sample="demo_one_total", labels=labels))
    theirs = {"exported_app": "x", "exported_exported_app": "y", "exported_release": "z"}
    expected = key("demo_one_total", **theirs, exported_exported_le="w", exported_le="v")
    assert own(host.scrape()) == {expected: 5}


def test_label_values_cannot_break_the_text(host: Host) -> None:
    value = 'a"b\\c\nd\re'
    file(host, "counter_w1.db", entry("demo_one", 5, sample="demo_one_total", labels={"v": value, "w": "\ud800"}))
    text = host.exporter.scrape().decode()
    assert '{app="api"' in text
    assert r'v="a\"b\\c\nd' in text
    assert all(
        line.startswith(("#", "demo_", "uwsgi_", "praetor_", "app_exporter_")) for line in text.split("\n") if line
    )


def test_one_name_with_two_types_is_served_once_and_named(host: Host) -> None:
    file(host, "gauge_max_w1.db", entry("demo_x", 3))
    file(host, "summary_w1.db", entry("demo_x", 4, sample="demo_x_sum"))
    samples = host.scrape()
    assert own(samples) == {key("demo_x"): 3}
    assert list(host.errors(samples)) == [("metrics", f"{SLOT}.metrics/demo_x")]


def test_what_is_beyond_the_limit_of_series_is_left_out_and_named(host: Host) -> None:
    entries = [entry("demo_x", 1, sample="demo_x_total", labels={"user": str(count)}) for count in range(300)]
    file(host, "counter_w1.db", *entries)
    for count in (1, 2):
        samples = host.scrape()
        assert len(own(samples)) == 200
        assert host.errors(samples) == {("metrics", f"{SLOT}.metrics/series"): count}


def test_neither_symlinks_nor_pipes_lead_elsewhere(host: Host, tmp_path: Path) -> None:
    neighbour = file(host, "counter_w1.db", entry("demo_secret", 5, sample="demo_secret_total"))
    elsewhere = tmp_path / "counter_w2.db"
    neighbour.rename(elsewhere)
    (neighbour.parent / "counter_w2.db").symlink_to(elsewhere)
    os.mkfifo(neighbour.parent / "counter_w3.db")
    second = f"api.{RELEASE}.2"
    (host.slots / f"{second}.metrics").symlink_to(tmp_path, target_is_directory=True)
    samples = host.scrape()
    assert own(samples) == {}
    named = {item for source, item in host.errors(samples) if source == "metrics"}
    assert named == {f"{SLOT}.metrics/counter_w2.db", f"{SLOT}.metrics/counter_w3.db", f"{second}.metrics"}


def test_values_that_are_no_finite_numbers_are_written_as_prometheus_does(host: Host) -> None:
    entries = [entry(f"demo_{name}", value) for name, value in (("inf", math.inf), ("low", -math.inf), ("small", 1e-9))]
    file(host, "gauge_max_w1.db", *entries, entry("demo_nan", math.nan), entry("demo_big", 2.0**70))
    samples = own(host.scrape())
    assert samples[key("demo_inf")] == math.inf
    assert samples[key("demo_low")] == -math.inf
    assert samples[key("demo_small")] == 1e-9
    assert samples[key("demo_big")] == 2.0**70
    assert math.isnan(samples[key("demo_nan")])
