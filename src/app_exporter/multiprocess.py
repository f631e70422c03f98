"""The application's own metrics: the files of prometheus_client's multiprocess mode."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from app_exporter.exposition import Exposition, Labels, number, sample_prefix
from app_exporter.problems import BrokenError, Problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app_exporter.slots import Slot

RESERVED_PREFIXES = ("uwsgi_", "praetor_", "app_exporter_", "nginx_")
# What one slot may cost, whatever its application writes.
MAX_BYTES = 32 << 20
MAX_FILES = 1024
MAX_REJECTED_NAMES = 20


_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_SUFFIXES = {
    "counter": ("_total", ""),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("", "_sum", "_count"),
}
_PER_PROCESS_MODES = ("all", "liveall")


@dataclass(eq=False, slots=True)
class Series:
    """One sample of a slot, summed up over its workers; ``le`` is the bound of a histogram's bucket."""

    family: str
    kind: str
    text: str
    sample: str
    labels: Labels
    le: float | None
    prefix: str


class FileName(NamedTuple):
    """What a metrics file's name says: ``counter_w1.db``, ``gauge_livesum_w1.db``."""

    kind: str
    mode: str
    process: str

    @classmethod
    def parse(cls, name: str) -> FileName:
        """Read a name.

        Raises:
            BrokenError: prometheus_client makes no such file.

        """
        kind, _, rest = name.removesuffix(".db").partition("_")
        mode = ""
        if kind == "gauge":
            mode, _, rest = rest.partition("_")
        if kind not in _SUFFIXES or not rest or not name.endswith(".db"):
            raise BrokenError("not the name of a metrics file")
        return cls(kind, mode, rest)


def entries(data: bytes, used: int, value_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Walk through a metrics file: each key with the position of its value.

    The format (prometheus_client/mmap_dict.py): a 4-byte count of the bytes in use, 4 bytes of padding, then per entry
    a 4-byte length, the key, spaces up to a multiple of 8, the value as a double and, since 0.17, its time as a double.

    Raises:
        BrokenError: the file does not end where an entry does.

    """
    position = 8
    while position < used:
        (length,) = struct.unpack_from("<i", data, position) if position + 4 <= used else (-1,)
        value_at = position + 4 + length + (8 - (length + 4) % 8)
        if length < 0 or value_at + value_bytes > used:
            raise BrokenError(f"broken at byte {position}")
        yield data[position + 4 : position + 4 + length], value_at
        position = value_at + value_bytes
    if position != used:
        raise BrokenError(f"broken at byte {used}")


@dataclass(slots=True)
class Layout:
    """A metrics file as read last: which series are where, and their values."""

    inode: int
    used: int
    series: list[Series | None]
    reader: struct.Struct
    stride: int
    values: tuple[float, ...] = ()


class SlotMetrics:
    """Reads the metric files of one slot and adds them up, as prometheus_client's MultiProcessCollector does.

    Keys never move and are never taken out of a file, so they are parsed once; a scrape then reads numbers only.
    """

    def __init__(self, slot: Slot, max_series: int) -> None:
        """Start with nothing read."""
        self.slot = slot
        self.max_series = max_series
        self._layouts: dict[str, Layout] = {}
        self._series: dict[tuple[str, Labels], Series] = {}
        self._parsed: dict[tuple[FileName, bytes], Series | None] = {}
        self._rejected: dict[str, str] = {}
        self._bytes_left = MAX_BYTES

    def read(self, exposition: Exposition, problems: Problems) -> None:
        """Add the slot's metrics to the answer."""
        totals: dict[Series, float] = {}
        times: dict[Series, float] = {}
        self._bytes_left = MAX_BYTES
        try:
            # Symlinks are not followed: the directory is the application's, and it could point us at a neighbour's.
            directory = os.open(self.slot.path("metrics"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # an application that has no metrics
        except OSError as error:
            problems.note(self.slot.app, "metrics", f"{self.slot.name}.metrics", error.strerror or str(error))
            return
        try:
            names = sorted(
                name
                for name in os.listdir(directory)  # noqa: PTH208 -- pathlib knows no descriptors
                if name.endswith(".db")
            )
            if len(names) > MAX_FILES:
                self._note(problems, "", f"{len(names)} files; only {MAX_FILES} are read")
            for name in names[:MAX_FILES]:
                try:
                    self._add(FileName.parse(name), self._file(directory, name, problems), totals, times)
                except FileNotFoundError:
                    continue
                except (OSError, ValueError) as error:
                    self._note(problems, name, str(error))
            for gone in self._layouts.keys() - set(names):
                del self._layouts[gone]
        finally:
            os.close(directory)
        for name, why in self._rejected.items():
            self._note(problems, name, why)
        self._write(totals, exposition, problems)

    def _note(self, problems: Problems, name: str, why: str) -> None:
        problems.note(self.slot.app, "metrics", f"{self.slot.name}.metrics/{name}", why)

    def _file(self, directory: int, name: str, problems: Problems) -> Layout:
        before = self._layouts.get(name)
        # Not blocking: it could be a fifo.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=directory)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise BrokenError("not a regular file")
            if before and before.inode != status.st_ino:
                before = None
            try:
                data = self._bytes(handle, status.st_size)
                layout = self._layout(FileName.parse(name), data, status.st_ino, before)
                layout.values = layout.reader.unpack_from(data)
            except ValueError as error:
                if before is None:
                    raise
                # Its last good figures stay: a counter that vanishes and comes back looks like a reset.
                self._note(problems, name, f"{error}; keeping its last figures")
                return before
        finally:
            os.close(handle)
        self._layouts[name] = layout
        return layout

    def _bytes(self, handle: int, size: int) -> bytes:
        """Read what the file says is in use; nothing yet in a file that is being made."""
        head = os.pread(handle, 8, 0)
        used = struct.unpack_from("<i", head)[0] if len(head) == 8 else 0
        if used == 0:
            return struct.pack("<ii", 8, 0)
        if not 8 <= used <= size:
            raise BrokenError(f"says {used} bytes are in use, of {size}")
        if used > self._bytes_left:
            raise BrokenError(f"the slot's files hold more than {MAX_BYTES} bytes")
        self._bytes_left -= used
        data = head + os.pread(handle, used - 8, 8)
        if len(data) < used:
            raise BrokenError(f"ends at byte {len(data)} of {used}")
        return data

    def _layout(self, name: FileName, data: bytes, inode: int, before: Layout | None) -> Layout:
        """Find out where the values are; not again while no key was added."""
        used = len(data)
        if before and before.used == used:
            return before
        if before and before.used > used:
            raise BrokenError(f"has shrunk from {before.used} to {used} bytes")
        found: list[tuple[bytes, int]] = []
        stride = 0
        for stride in (2, 1):
            try:
                found = list(entries(data, used, 8 * stride))
                if all(key.startswith(b"[") for key, _ in found):
                    break
            except ValueError:
                if stride == 1:
                    raise
        else:
            raise BrokenError("its keys are not JSON")
        series: list[Series | None] = []
        layout = ["<"]
        position = 0
        for key, value_at in found:
            series.append(self._parse(name, key))
            layout.append(f"{value_at - position}x{'d' * stride}")
            position = value_at + 8 * stride
        return Layout(inode, used, series, struct.Struct("".join(layout)), stride)

    def _parse(self, name: FileName, key: bytes) -> Series | None:
        """Read a key; none if it cannot be a series, which is told at every scrape."""
        if name.mode not in _PER_PROCESS_MODES:
            name = name._replace(process="")
        if (name, key) in self._parsed:
            return self._parsed[name, key]
        if len(self._series) >= self.max_series:
            self._rejected["series"] = f"more than {self.max_series} series"
            return None
        parsed: Series | None = None
        try:
            parsed = self._make(name, key)
        except (ValueError, RecursionError) as error:
            if len(self._rejected) < MAX_REJECTED_NAMES:
                shown = key[:80].decode("utf-8", errors="replace")
                self._rejected[f"{name.kind} {shown}"] = str(error)
        self._parsed[name, key] = parsed
        return parsed

    def _make(self, name: FileName, key: bytes) -> Series:
        metric, sample, own, text = json.loads(key)
        if not (
            isinstance(sample, str) and isinstance(metric, str) and isinstance(text, str) and isinstance(own, dict)
        ):
            raise BrokenError("a key is [name, name, labels, help]")
        if not _METRIC_NAME.fullmatch(metric) or sample not in {metric + end for end in _SUFFIXES[name.kind]}:
            raise BrokenError("not the name of a metric")
        # In the text format a counter's family has the name of its sample.
        family = sample if name.kind == "counter" else metric
        if family.startswith(RESERVED_PREFIXES):
            raise BrokenError(f"names that begin with {', '.join(RESERVED_PREFIXES)} are taken")
        bound = own.pop("le", None) if name.kind == "histogram" else None
        if (bound is None) == sample.endswith("_bucket") and name.kind == "histogram":
            raise BrokenError("a bucket has a label le, and nothing else has")
        labels = self._labels(name, own)
        found = self._series.get((f"{sample}|{bound}", tuple(labels)))
        if found:
            return found
        le = None if bound is None else float(str(bound))
        if le is not None and math.isnan(le):
            raise BrokenError("a bucket has a number as its bound")
        shown = labels if bound is None else [*labels, ("le", str(bound))]
        series = Series(family, name.kind, text, sample, tuple(labels), le, sample_prefix(sample, tuple(shown)))
        self._series[f"{sample}|{bound}", tuple(labels)] = series
        return series

    def _labels(self, name: FileName, own: dict[str, Any]) -> list[tuple[str, str]]:
        """Put the slot's labels before the application's own, which give way where they have the same name."""
        labels = list(self.slot.labels)
        if name.mode in _PER_PROCESS_MODES:
            labels.append(("pid", name.process))
        taken = {label for label, _ in labels} | {"le"}
        for label, value in sorted(own.items()):
            if not _LABEL_NAME.fullmatch(label):
                raise BrokenError(f"{label!r} is no name for a label")
            free = label
            while free in taken:  # as Prometheus does with labels that it sets itself
                free = f"exported_{free}"
            taken.add(free)
            labels.append((free, str(value)))
        return labels

    @staticmethod
    def _add(name: FileName, layout: Layout, totals: dict[Series, float], times: dict[Series, float]) -> None:
        """Add one file's figures to the slot's."""
        mode = name.mode.removeprefix("live")
        figures = zip(layout.series, layout.values[:: layout.stride], strict=True)
        if mode in {"min", "max"}:
            better = min if mode == "min" else max
            for series, value in figures:
                if series:
                    totals[series] = better(totals.get(series, value), value)
        elif mode == "mostrecent" and layout.stride == 2:
            for (series, value), at in zip(figures, layout.values[1::2], strict=True):
                if series and at >= times.get(series, -math.inf):
                    totals[series], times[series] = value, at
        else:
            for series, value in figures:
                if series:
                    totals[series] = totals.get(series, 0.0) + value

    def _write(self, totals: dict[Series, float], exposition: Exposition, problems: Problems) -> None:
        """Give the sums to the families; a histogram's buckets are added up from below."""
        buckets: dict[tuple[str, Labels], list[tuple[float, Series]]] = {}
        refused: set[str] = set()
        for series, value in totals.items():
            if series.family in refused:
                continue
            try:
                family = exposition.family(series.family, series.kind, series.text)
            except ValueError as error:
                refused.add(series.family)
                self._note(problems, series.family, str(error))
                continue
            if series.le is None:
                if series.kind != "histogram" or not series.sample.endswith("_count"):
                    family.lines.append(series.prefix + number(value))
            else:
                buckets.setdefault((series.family, series.labels), []).append((series.le, series))
        for (name, labels), bounds in buckets.items():
            lines = exposition.families[name].lines
            total = 0.0
            for _, series in sorted(bounds, key=lambda bound: bound[0]):
                total += totals[series]
                lines.append(series.prefix + number(total))
            lines.append(sample_prefix(f"{name}_count", labels) + number(total))
