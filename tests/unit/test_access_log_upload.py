"""What the uploader of access logs sends: each line once, over rotations, restarts and times without the other side."""

from __future__ import annotations

import gzip
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from access_log_upload.__main__ import AwayError, Uploader, run
from access_log_upload.export import entries
from access_log_upload.files import MAX_BYTES, QUIET_S, AccessLog, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def line(number: int) -> bytes:
    """Return a line as NGINX writes it."""
    return b'{"ts":1795362659.%03d,"request_id":"%d","uri":"/"}\n' % (number, number)


def numbers(*found: int) -> bytes:
    """Return the lines of these numbers."""
    return b"".join(map(line, found))


def append(path: Path, text: bytes) -> None:
    """Write as NGINX does."""
    with path.open("ab") as file:
        file.write(text)


def rotate(path: Path) -> None:
    """Rotate as Debian's logrotate does it for NGINX: compress, rename, make; but for the signal."""
    for number in (3, 2):
        with_it = path.with_name(f"{path.name}.{number}.gz")
        if with_it.exists():
            with_it.rename(path.with_name(f"{path.name}.{number + 1}.gz"))
    first = path.with_name(f"{path.name}.1")
    if first.exists():
        kept = first.stat()
        path.with_name(f"{path.name}.2.gz").write_bytes(gzip.compress(first.read_bytes()))
        os.utime(path.with_name(f"{path.name}.2.gz"), (kept.st_atime, kept.st_mtime))
        first.unlink()
    path.rename(first)
    path.touch()


def rest(path: Path, age_s: float = QUIET_S + 1) -> None:
    """Let nobody have written to a file for so long."""
    at = path.stat().st_mtime - age_s
    os.utime(path, (at, at))


class Other:
    """The monitoring host's end of it: keeps what it is sent, or is away."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.is_away = False

    def put(self, body: bytes) -> None:
        """Take it, or not."""
        if self.is_away:
            raise AwayError
        self.bodies.append(body)

    @property
    def messages(self) -> bytes:
        """The lines that came, as they were."""
        found = b"".join(self.bodies).split(b"\n")
        return b"".join(each.removeprefix(b"MESSAGE=") + b"\n" for each in found if each.startswith(b"MESSAGE="))


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    (tmp_path / "nginx").mkdir()
    return tmp_path / "nginx" / "api.access.log"


@pytest.fixture(name="other")
def _other() -> Other:
    return Other()


STARTED: list[Uploader] = []


def uploader(log: Path, other: Other) -> Uploader:
    """Return the program as it starts on a host; the one before has ended."""
    end()
    archive: Any = other
    STARTED.append(Uploader(log.parent, log.parent.parent / "places.json", archive, "web1"))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    yield
    end()


def end() -> None:
    """End what was started."""
    while STARTED:
        STARTED.pop().close()


def test_a_line_becomes_an_entry_with_the_time_of_its_request_and_all_its_bytes() -> None:
    text = b'{"ts":1795362659.007,"request_id":"x","uri":"/\xff\xe2\x80\xa8=\r"}\n'
    assert entries(text, "api", "web1") == (
        b"__REALTIME_TIMESTAMP=1795362659007000\n_BOOT_ID=f1a3c0d2b6e74958a7d4e05b9c8261f7\n_HOSTNAME=web1\n_SYSTEMD_UNIT=nginx.service\nSYSLOG_IDENTIFIER=api\nPRIORITY=6\n"
        b"MESSAGE=" + text + b"\n"
    )


@pytest.mark.parametrize("foreign", [b"_HOSTNAME=web9", b"", b'x{"ts":1.000,', b"\x00" * 40, b'{"ts":179\r'])
def test_what_is_none_of_nginxs_lines_is_a_message_and_makes_no_field(foreign: bytes) -> None:
    made = entries(line(1) + foreign + b"\n" + line(2), "api", "web1").split(b"\n\n")
    assert [each.split(b"\nMESSAGE=")[1] for each in made[:3]] == [line(1)[:-1], foreign, line(2)[:-1]]
    assert [each.count(b"\n") for each in made] == [6, 6, 6, 0]
    assert all(each.startswith(b"__REALTIME_TIMESTAMP=") for each in made[:3])


def test_a_piece_of_a_line_is_a_whole_entry() -> None:
    assert entries(b"x" * 9, "api", "web1").endswith(b"\nMESSAGE=xxxxxxxxx\n\n")


def test_only_access_logs_of_sites_are_read(tmp_path: Path) -> None:
    names = [
        "api.access.log",
        "api.access.log.1",
        "api.access.log.14.gz",
        "access.log",
        "error.log",
        "api.access.log.new",
    ]
    assert [site_of(tmp_path / name) for name in names] == ["api", "api", "api", "", "", ""]


def test_the_first_start_begins_with_what_is_new_and_a_new_site_with_its_first_line(log: Path, other: Other) -> None:
    append(log, numbers(1, 2))
    program = uploader(log, other)
    program.send()
    assert other.messages == b""
    append(log, numbers(3))
    append(log.with_name("shop.access.log"), numbers(4))
    program.send()
    assert other.messages == numbers(3, 4)
    assert b"SYSLOG_IDENTIFIER=shop\n" in other.bodies[0]


def test_a_line_is_sent_when_it_is_whole(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, line(1) + line(2)[:20])
    program.send()
    assert other.messages == line(1)
    append(log, line(2)[20:])
    program.send()
    assert other.messages == numbers(1, 2)


def test_a_rotated_file_is_read_for_as_long_as_nginx_may_write_to_it(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    program.send()
    rotate(log)
    append(log, numbers(3))
    program.send()
    append(log.with_name("api.access.log.1"), numbers(2))  # a worker that was not yet told
    program.send()
    assert other.messages == numbers(1, 2)
    rest(log.with_name("api.access.log.1"))
    program.send()
    append(log, numbers(4))
    program.send()
    assert other.messages == numbers(1, 2, 3, 4)


def test_what_was_rotated_and_compressed_while_the_other_side_was_away_follows_in_order(
    log: Path, other: Other
) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    program.send()
    other.is_away = True
    for number in (2, 4, 6):
        append(log, numbers(number, number + 1))
        rest(log)
        with pytest.raises(AwayError):
            program.send()
        rotate(log)
    append(log, numbers(8))
    other.is_away = False
    while program.send():
        pass
    for _ in range(5):
        program.send()
    assert other.messages == numbers(*range(1, 9))


@pytest.mark.parametrize("rotations", [0, 1, 2])
def test_a_start_goes_on_where_the_one_before_stopped(log: Path, other: Other, rotations: int) -> None:
    program = uploader(log, other)
    append(log, numbers(1, 2))
    program.send()
    append(log, numbers(3))
    for number in range(rotations):
        rest(log)
        rotate(log)
        append(log, numbers(4 + number))
    program = uploader(log, other)
    for _ in range(rotations + 1):
        program.send()
    assert other.messages == numbers(*range(1, 4 + rotations))


def test_a_start_after_its_file_is_gone_begins_with_the_oldest(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    program.send()
    log.unlink()
    append(log.with_name("api.access.log.1"), numbers(2))
    rest(log.with_name("api.access.log.1"))
    append(log, numbers(3))
    program = uploader(log, other)
    program.send()
    program.send()
    assert other.messages == numbers(1, 2, 3)


def test_an_emptied_file_begins_again(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1, 2, 3))
    program.send()
    log.write_bytes(numbers(4))
    program.send()
    assert other.messages == numbers(1, 2, 3, 4)
    program = uploader(log, other)
    program.send()
    append(log, numbers(5))
    program.send()
    assert other.messages == numbers(1, 2, 3, 4, 5)


def test_what_the_other_side_did_not_take_is_sent_again_and_what_it_took_is_not(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    program.send()
    append(log, numbers(2))
    other.is_away = True
    with pytest.raises(AwayError):
        program.send()
    program = uploader(log, other)
    other.is_away = False
    append(log, numbers(3))
    program.send()
    assert other.messages == numbers(1, 2, 3)


def test_a_full_disk_stops_no_line(log: Path, other: Other, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    program = uploader(log, other)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("access_log_upload.__main__.os.fsync", full)
    for number in (1, 2, 3):
        append(log, numbers(number))
        program.send()
    assert other.messages == numbers(1, 2, 3)
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_broken_note_of_the_place_loses_no_line(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    program.send()
    (log.parent.parent / "places.json").write_text("")
    uploader(log, other).send()
    assert other.messages == numbers(1, 1)


def test_a_site_that_is_removed_with_its_log_is_forgotten(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, numbers(1))
    append(log.with_name("shop.access.log"), numbers(2))
    program.send()
    log.unlink()
    append(log.with_name("shop.access.log"), numbers(3))
    program.send()
    assert other.messages == numbers(1, 2, 3)
    assert "api" not in (log.parent.parent / "places.json").read_text()


def test_a_site_whose_log_cannot_be_read_keeps_no_other_back(log: Path, other: Other) -> None:
    program = uploader(log, other)
    outside = log.parent.parent / "secret"
    outside.write_bytes(numbers(9))
    log.symlink_to(outside)
    append(log.with_name("shop.access.log"), numbers(1))
    program.send()
    assert other.messages == numbers(1)


def test_much_is_sent_in_pieces_without_a_pause(log: Path) -> None:
    append(log, numbers(*range(1000)) * 30)
    reader, found = AccessLog(log.parent, "api"), []
    while lines := reader.lines():
        assert len(lines) <= MAX_BYTES
        assert lines.endswith(b"\n")
        found.append(lines)
        reader.sent(lines)
    assert b"".join(found) == log.read_bytes()
    assert len(found) > 1
    reader.close()


def test_a_line_without_an_end_stops_nothing(log: Path, other: Other) -> None:
    program = uploader(log, other)
    append(log, line(1) + b"x" * (MAX_BYTES + 5) + b"\n" + line(2))
    for _ in range(3):
        program.send()
    assert other.messages.replace(b"x\nx", b"xx") == log.read_bytes()


def test_the_last_lines_are_sent_when_it_is_told_to_end(log: Path, other: Other) -> None:
    program, ending = uploader(log, other), threading.Event()
    append(log, numbers(1))
    ending.set()
    run(program, ending)
    assert other.messages == numbers(1)


def test_lines_that_are_written_while_it_is_told_to_end_are_sent_too(log: Path, other: Other) -> None:
    ending = threading.Event()

    class Ending(Other):
        def put(self, body: bytes) -> None:
            """Take it, and be told meanwhile."""
            super().put(body)
            if not ending.is_set():
                ending.set()
                append(log, numbers(2))

    other = Ending()
    program = uploader(log, other)
    append(log, numbers(1))
    run(program, ending)
    assert other.messages == numbers(1, 2)


def test_a_time_without_the_other_side_is_told_once(log: Path, other: Other, capsys: Any) -> None:
    program, other.is_away = uploader(log, other), True
    append(log, numbers(1))

    class Ending(threading.Event):
        rounds = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.rounds += 1
            other.is_away = self.rounds < 3
            if self.rounds == 5:
                self.set()
            return self.is_set()

    run(program, Ending())
    assert other.messages == numbers(1)
    said = capsys.readouterr().err
    assert said.count("cannot send") == said.count("sends again") == 1
