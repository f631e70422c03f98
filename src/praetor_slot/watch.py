"""Ends requests that last too long, in a process next to a slot's workers that uWSGI's master starts.

uWSGI 2.0 keeps one deadline a worker, which every request of the worker's other threads puts off. Here each request's deadline is in memory that is
shared, and is read whatever a worker's code is stuck in: it may hold Python's lock, or never come back from a system call.

A worker with a request over its limit takes no new ones, its other requests have SPARE_S to be answered, and then it is killed; uWSGI starts another.
"""

import contextlib
import json
import mmap
import os
import signal
import struct
import sys
import time

MOST_WORKERS, MOST_THREADS = 64, 64  # of the inventory's check
ROW = struct.Struct(
    "dd"
)  # of a thread: its worker's pid, and when its request must have ended, on the monotonic clock; 0: it has none
TABLE_BYTES = MOST_WORKERS * MOST_THREADS * ROW.size
LOOK_S = 0.25
SPARE_S = 3.0


def table(state: str) -> mmap.mmap:
    """The deadlines of all threads of the slot whose processes keep what they know of each other in directory `state`."""
    os.makedirs(state, mode=0o750, exist_ok=True)
    fd = os.open(f"{state}/requests", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # With its blocks: to write where there is no room would end the process.
        os.posix_fallocate(fd, 0, TABLE_BYTES)
        return mmap.mmap(fd, TABLE_BYTES)
    finally:
        os.close(fd)


def say(state: str, who: str, facts: object) -> None:
    """Write down how a process of the slot is getting on, for the gate and the exporter; without room to write it goes on all the same."""
    new = f"{state}/{who}.new"
    with contextlib.suppress(OSError):
        with open(new, "w", encoding="utf-8") as file:
            json.dump(facts, file)
        os.replace(new, f"{state}/{who}.json")


def log(text: str) -> None:
    """Say something in the slot's log."""
    print(text, file=sys.stderr, flush=True)


class Watch:
    """Ends requests that outlive their limit."""

    def __init__(self, state: str, threads: int) -> None:
        """Go on counting where a watch before this one stopped."""
        self.rows, self.state, self.threads = table(state), state, threads
        self.master = os.getppid()
        self.told: dict[int, float] = {}  # workers that take no new requests, and when they were told
        self.ended: dict[str, int] = {}  # requests, by worker
        with (
            contextlib.suppress(OSError, ValueError, KeyError),
            open(f"{state}/watch.json", encoding="utf-8") as file,
        ):
            self.ended = dict(json.load(file)["ended"])
        self.save()

    def save(self) -> None:
        """Write down how many requests were ended."""
        say(self.state, "watch", {"pid": os.getpid(), "ended": self.ended})

    def look(self, now: float) -> None:
        """Look at all workers once; `now` is on the monotonic clock."""
        for worker in range(MOST_WORKERS):
            places = [(worker * MOST_THREADS + each) * ROW.size for each in range(self.threads)]
            rows = [ROW.unpack_from(self.rows, place) for place in places]
            pid = int(max(row[0] for row in rows))
            deadlines = [deadline for _, deadline in rows if deadline]
            late = [deadline for deadline in deadlines if deadline <= now]
            if not late or not self.is_ours(pid):
                self.told.pop(pid, None)
                continue
            if pid not in self.told:
                self.told[pid] = now
                log(f"worker {worker + 1} takes no new requests: {len(late)} of {len(deadlines)} are over their limit")
                _send(pid, signal.SIGHUP)
                continue  # one that it has accepted this instant is not in the table yet
            if len(late) < len(deadlines) and now - self.told[pid] < SPARE_S:
                continue
            log(f"worker {worker + 1} is killed: {len(late)} of its {len(deadlines)} requests are over their limit")
            # Counted first: who finds the worker dead finds out why.
            self.ended[str(worker + 1)] = self.ended.get(str(worker + 1), 0) + len(late)
            self.save()
            _send(pid, signal.SIGKILL)
            self.told.pop(pid, None)
            for place in places:
                ROW.pack_into(self.rows, place, 0, 0)

    def is_ours(self, pid: int) -> bool:
        """Whether a process is a worker of this slot, and lives: its number may be another's by now."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            return False
        return state != "Z" and int(parent) == self.master

    def run(self) -> None:
        """Look until the master stops this process, which it does when the workers of a slot that ends have ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        while os.getppid() == self.master:
            self.look(time.monotonic())
            if told := signal.sigtimedwait({signal.SIGTERM}, LOOK_S):
                if told.si_pid == self.master:
                    self.wake_master()
                return

    def wake_master(self) -> None:
        """Let the master go on as soon as this process has ended: it has told it to, and sleeps a whole second before it looks whether it has.

        A master that ends or reloads heeds no further SIGHUP, but is woken by it.
        """
        watch = os.getpid()
        if os.fork():
            return
        while os.getppid() == watch:
            time.sleep(0.001)
        _send(self.master, signal.SIGHUP)
        os._exit(0)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    Watch(sys.argv[1], int(sys.argv[2])).run()
