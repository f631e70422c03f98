"""A run as a story: a line for each step with its hosts and seconds, each error once, and at the end what is live. Knows nothing of Ansible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "changed", "skipped", "unreachable", "failed"]
Say = Callable[[str, str], None]  # a line, and the name of its colour

WIDTH = 80
SLOW_S = 5.0  # as long as it takes until somebody is told what is waited for
COLUMN = len("changed")
MOST_ROWS = 8  # hosts that get a line in the summary
MOST_LINES = 12  # of what a failed command said
COLOURS: Mapping[str, str] = {
    "ok": "green",
    "changed": "yellow",
    "skipped": "cyan",
    "unreachable": "bright red",
    "failed": "red",
}
# The worst that happened to a host is what its step shows.
_RANK: tuple[Status, ...] = ("skipped", "ok", "changed", "unreachable", "failed")


@dataclass
class Step:
    """A role, or a task outside of roles."""

    name: str
    group: str  # the role
    phase: bool  # shown whatever came of it
    began: float
    hosts: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)  # hosts by what went wrong
    messages: list[str] = field(default_factory=list)

    def note(self, host: str, status: Status) -> None:
        """Note its result on a host."""
        self.hosts[host] = max(self.hosts.get(host, "skipped"), status, key=_RANK.index)


@dataclass(frozen=True)
class Counts:
    """What happened on a host in the whole run."""

    ok: int
    changed: int
    unreachable: int
    failed: int

    def __str__(self) -> str:
        """Write them as Ansible does, bad ones only where there are any."""
        bad = {"unreachable": self.unreachable, "failed": self.failed}
        return " ".join(
            [f"ok={self.ok} changed={self.changed}", *(f"{name}={count}" for name, count in bad.items() if count)]
        )


@dataclass
class Travel:
    """A release on its way."""

    app: str
    release: str
    before: str  # empty where the hosts had nothing, or several
    settled: list[str] = field(default_factory=list)


class Story:
    """Told event by event; says a line when a step is over."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        """Say nothing yet."""
        self._say, self._clock = say, clock
        self._began = clock()
        self._play, self._told_play = "", True
        self._hosts: list[str] = []
        self._step: Step | None = None
        self._held: dict[str, list[str]] = {}
        self._told: list[str] = []
        self._before: dict[str, set[str]] = {}
        self._travels: dict[str, Travel] = {}
        self._inventory = ""
        self.unneeded = False  # whether the plan found nothing to do
        self.reported = False  # whether a report of a failed run has told everything

    def begin(self, playbook: Path, inventory: Iterable[str], *, dry: bool) -> None:
        """Say what runs."""
        self._inventory = " ".join(f"-i {shown(Path(each)) if '/' in each else each}" for each in inventory)
        plan = " (a plan: nothing is changed)" if dry else ""
        self._say(f"{shown(playbook)} {self._inventory}{plan}", "bright blue")

    def play(self, name: str, hosts: Iterable[str]) -> None:
        """Begin a play; its name is said with its first step."""
        self.flush()
        self._play, self._hosts, self._told_play = name, list(hosts), False

    def task(self, name: str, role: str = "", *, phase: bool = False) -> None:
        """Begin a task. Those of a role are one step."""
        if role and self._step and self._step.group == role and not self._step.errors:
            return
        self.flush()
        self._step = Step(role or name.split(" | ", 1)[-1], role, phase=phase or bool(role), began=self._clock())

    def result(self, host: str, status: Status) -> None:
        """Note a task's result on a host."""
        if self._step:
            self._step.note(host, status)

    def error(self, host: str, text: str, *, status: Status = "failed", rescued: bool = False) -> None:
        """Note what went wrong. A rescue that handles the failure reports it; otherwise it is reported at the end."""
        if not self._step:
            return
        self._step.note(host, status)
        into = self._held if rescued else self._step.errors
        into.setdefault(text, []).append(host)

    def message(self, text: str) -> None:
        """Print a playbook's message at once; the same message from several hosts is printed once."""
        if self._step and text not in self._step.messages:
            self._step.messages.append(text)
            self._say(text, "")

    def was_live(self, app: str, release: str) -> None:
        """Note what is live on a host before the run."""
        self._before.setdefault(app, set()).add(release)

    def travels(self, app: str, release: str) -> None:
        """Note that a release is on its way."""
        before = self._before.get(app, set()) - {release}
        self._travels[app] = Travel(app, release, before.pop() if len(before) == 1 else "")

    def settled(self, app: str, host: str) -> None:
        """Note that what is on its way is live and settled on a host."""
        if app in self._travels:
            self._travels[app].settled.append(host)

    def flush(self) -> None:
        """Print the step that is over."""
        step, self._step = self._step, None
        if not step:
            return
        seconds = self._clock() - step.began
        statuses = {host: status for host, status in step.hosts.items() if status != "skipped"}
        worst: Status = max(statuses.values(), key=_RANK.index, default="skipped")
        # The report of a failed run has said everything.
        told = set(step.errors) == {""}
        if statuses and not told and (step.phase or worst != "ok" or seconds >= SLOW_S):
            self._heading()
            self._say(line(step.name, self._cells(statuses), f"{seconds:.1f} s"), COLOURS.get(worst, ""))
        for text, hosts in step.errors.items():
            if text and not any(text in told for told in self._told):
                self._told.append(text)
                self._say(indented(f"{listed(self._ordered(hosts))}: {text}"), "red")

    def end(self, counts: Mapping[str, Counts]) -> None:
        """Print the result of the run."""
        self.flush()
        failed = any(each.failed or each.unreachable for each in counts.values())
        if failed and not self.reported:
            for text, hosts in self._held.items():
                if not any(text in told for told in self._told):
                    self._say(indented(f"before that, {listed(self._ordered(hosts))}: {text}"), "red")
        self._say("", "")
        for text, colour in summary(counts):
            self._say(text, colour)
        took = f"{self._clock() - self._began:.0f} s"
        for travel in self._travels.values():
            if travel.settled and not failed:
                where = listed(self._ordered(travel.settled))
                self._say(f"{travel.app} {travel.release} is live on {where}.", "green")
                if travel.before:
                    undo = f"ansible-playbook playbooks/rollback.yml {self._inventory}"
                    self._say(f"Undo: {undo} -e app={travel.app} -e release={travel.before}", "")
        if self.unneeded and not failed:
            for app, found in self._before.items():
                self._say(f"{app} {', '.join(sorted(found))} was live already: there was nothing to do.", "green")
        self._say(f"It failed after {took}; -v shows Ansible's own lines." if failed else f"It took {took}.", "")

    def _ordered(self, hosts: Iterable[str]) -> list[str]:
        """Put hosts into the play's order: whoever answers first is another one each time."""
        places = {host: place for place, host in enumerate(self._hosts)}
        return sorted(hosts, key=lambda host: (places.get(host, len(places)), host))

    def _heading(self) -> None:
        if self._told_play:
            return
        self._told_play = True
        self._say("", "")
        names = [f"{host:<{max(len(host), COLUMN)}}" for host in self._hosts] if self._fits() else []
        self._say(line(self._play, "  ".join(names), "", margin=""), "bright blue")

    def _fits(self) -> bool:
        return sum(max(len(host), COLUMN) + 2 for host in self._hosts) <= WIDTH // 2

    def _cells(self, statuses: Mapping[str, Status]) -> str:
        if self._fits() and set(statuses) <= set(self._hosts):
            return "  ".join(f"{statuses.get(host, ''):<{max(len(host), COLUMN)}}" for host in self._hosts)
        return counted(statuses)


def line(name: str, cells: str, seconds: str, margin: str = "  ") -> str:
    """Write a line of a table: a name that is cut where it would not fit, what came of it by host, and how long it took."""
    room = WIDTH - len(margin) - len(cells) - 2 - 8
    kept = name if len(name) <= room else name[: max(room - 3, 8)] + "..."
    return f"{margin}{kept:<{room}}  {cells}{seconds:>8}".rstrip()


def counted(statuses: Mapping[str, Status]) -> str:
    """Write how many hosts had which result, and name those that did not go well if they are few."""
    parts = []
    for status in reversed(_RANK):
        hosts = [host for host, found in statuses.items() if found == status]
        if hosts:
            named = f" ({listed(hosts, 3)})" if status in {"failed", "unreachable"} else ""
            parts.append(f"{len(hosts)} {status}{named}")
    return ", ".join(parts)


def listed(hosts: Sequence[str], most: int = 6) -> str:
    """Name hosts; many of them by the first and their number."""
    names = list(dict.fromkeys(hosts))
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def together(said: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about hosts; hosts with the same text share one."""
    found: dict[str, list[str]] = {}
    for host, text in said:
        found.setdefault(text, []).append(host)
    return [f"{listed(hosts)}: {text}" for text, hosts in found.items()]


def indented(text: str) -> str:
    """Set a text of several lines under its step."""
    return "\n".join(f"    {each}".rstrip() for each in text.rstrip("\n").splitlines())


def summary(counts: Mapping[str, Counts]) -> list[tuple[str, str]]:
    """Lines with what happened by host, with their colours; many hosts with equal counts share a line."""
    if not counts:
        return [("No host was in this run.", "")]
    if len(counts) <= MOST_ROWS:
        rows = [(host, each) for host, each in sorted(counts.items())]
    else:
        groups: dict[Counts, list[str]] = {}
        for host, each in sorted(counts.items()):
            groups.setdefault(each, []).append(host)
        rows = [(listed(hosts) if len(hosts) < 3 else f"{len(hosts)} hosts", each) for each, hosts in groups.items()]
    width = max(len(name) for name, _ in rows)
    return [
        (
            f"{name:<{width}}  {each}",
            "red" if each.failed or each.unreachable else "yellow" if each.changed else "green",
        )
        for name, each in rows
    ]


def shown(path: Path) -> str:
    """Write a path as somebody here would type it."""
    place = path.absolute()
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)


def reason(result: Mapping[str, Any], place: str) -> str:
    """Say why a task failed, with the command, its last lines of output, and the task's place in the playbook."""
    if result.get("_ansible_no_log") or "censored" in result:
        return f"it failed; its output is not shown, because it may contain secrets\n{place}".rstrip()
    items = [each for each in result.get("results") or [] if isinstance(each, dict)]
    # From ansible-core 2.21 on an item that failed has no other mark than its exception, and one that was skipped than its reason.
    failed = [each for each in items if each.get("failed") or each.get("exception")]
    if failed:
        return "\n".join(dict.fromkeys(reason(each, place) for each in failed))
    lines = [str(result.get("msg") or "it failed without a message").strip()]
    # Several mistakes of an inventory, each on a line.
    lines += str(result.get("mistakes") or "").splitlines()
    if command := result.get("cmd"):
        lines.append(f"command: {command if isinstance(command, str) else ' '.join(map(str, command))}")
    for name in ("stdout", "stderr", "module_stdout", "module_stderr"):
        said = str(result.get(name) or "").strip()
        if said and said not in lines[0]:
            lines += said.splitlines()[-MOST_LINES:]
    return "\n".join([*lines, *([f"in {place}"] if place and "mistakes" not in result else [])])


def messages(result: Mapping[str, Any]) -> list[str]:
    """Return what a `debug` says: its message, the value of its variable, or those of all its items."""
    if items := result.get("results"):
        return [text for each in items if not (each.get("skipped") or "skip_reason" in each) for text in messages(each)]
    value = result.get("msg") or next(
        (inner for key, inner in result.items() if not key.startswith("_ansible") and key not in {"changed", "failed"}),
        "",
    )
    return ["\n".join(map(str, value)) if isinstance(value, list) else str(value)]
