"""The documents that travel between functions, files and machines, as types.

Nothing here runs on a host: what is sent there imports these names for mypy only, because to make the types takes longer than most of its work.
Those of an entry of `apps` and its parts are in `praetor.entry`, which is made from the inventory's model.
Keys that are `NotRequired` are missing in what earlier versions wrote, or until a later phase notes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from praetor.entry import *  # noqa: F403  all types of an entry and its parts: a new one is named in no other place
from praetor.entry import Commands, Given, Limits, Options, PathLimits, Settings

if TYPE_CHECKING:
    from praetor.host.balancer import Servers
    from praetor.host.drained import Drained

Action = Literal["release", "rollback", "refresh", "maintain", "drain", "undrain"]


class Owner(TypedDict):
    """The process that started a run; whether it still lives is known on its own controller only."""

    user: str
    host: str
    machine: str
    namespace: str
    boot: str
    pid: int
    started: str | None


class Run(TypedDict):
    """Who does what to which end."""

    id: str
    owner: Owner
    action: Action
    why: str  # as the operator said it
    lease_s: NotRequired[float]
    hosts: NotRequired[list[str]]  # that it goes to; of a large fleet the first ones, and how many more
    without: NotRequired[list[str]]  # the app hosts that it leaves out


class DrainState(TypedDict):
    """What was seen of a slot that gets no new requests, for a later phase to go on with."""

    slot: str
    probed: bool
    requests: NotRequired[int | None]  # None: it was busy
    since: NotRequired[float]  # on the host's monotonic clock


class TrafficFacts(TypedDict):
    """What NGINX's access log said of some span of time."""

    requests: int
    failed: int
    p95_s: float
    p95_least_s: float


class Bake(TypedDict):
    """What a bake has seen; nothing more where nothing had to be flipped."""

    flipped: bool
    before: NotRequired[TrafficFacts]
    since: NotRequired[TrafficFacts]
    served: NotRequired[int]


class Journal(TypedDict):
    """`run.json`: the lock of a run on a host, and what its phases noted. Whoever finds it knows what was about to be done."""

    run: Run
    phase: str
    since: float
    expires: float
    interrupted: NotRequired[Journal | None]  # the journal of a run that never ended
    candidate: NotRequired[str]  # the slot that the gate started
    previous: NotRequired[str | None]  # the slot that was live before the flip; None: nothing was
    site: NotRequired[str]  # the release whose site NGINX may not have read yet
    drain: NotRequired[DrainState]
    bake: NotRequired[Bake]
    reason: NotRequired[str]  # why the release failed under traffic
    share: NotRequired[dict[str, int]]  # how many of each process ran before


# A line of `history.jsonl`; `from` is no name in Python.
Event = TypedDict(
    "Event",
    {
        "ts": NotRequired[str],  # added when it is written
        "action": str,  # of a run, or migrate, or run: a single command
        "run": NotRequired[str],
        "to": NotRequired[str],
        "result": NotRequired[str],  # ok or failed
        "from": NotRequired[str | None],
        "by": NotRequired[str],
        "why": NotRequired[str],  # as the operator said it
        "reason": NotRequired[str],  # why it failed
        "hosts": NotRequired[list[str]],
        "without": NotRequired[list[str]],  # hosts
        "duration_s": NotRequired[float],
        "output": NotRequired[str],  # of a migration
        "bake": NotRequired[Bake],
    },
)


class Mark(TypedDict):
    """An entry of `bad.json`: why and when a release failed under traffic."""

    reason: str
    ts: str


class Freeze(TypedDict):
    """`freeze.json`: until when releases are forbidden, in seconds since the epoch."""

    until: float
    reason: str
    by: str


class WheelEntry(TypedDict):
    """A wheel, as a host knows it."""

    name: str
    version: str
    file: str
    sha256: str
    origin: NotRequired[str]


class TreeEntry(TypedDict):
    """The packed tree of a project that is no package."""

    digest: str
    file: str
    sha256: str


class Facts(TypedDict):
    """Where an artifact comes from; not a part of what it is."""

    version: str
    commit: str | None
    dirty: bool
    source: str
    locked_by: NotRequired[str]
    left_out: NotRequired[list[str]]


class Artifact(Facts):
    """What is built once: everything but its files. It names no place on the controller."""

    app: str
    artifact: str
    built_at: str
    built_by: str
    python: list[str]
    wheels: dict[str, list[WheelEntry]]
    tree: TreeEntry | None
    packages: NotRequired[dict[str, list[str]]]  # of Debian, that what was compiled is linked with, by Python


SliceLimit = Literal["memory_max", "memory_high", "cpu_weight", "cpu_quota", "tasks_max", "io_weight"]


class SliceLimits(TypedDict, total=False):
    """What an app as a whole may take, see `limits` of an entry; a release from before there were such limits has none."""

    memory_max: int | str
    memory_high: int | str
    cpu_weight: int
    cpu_quota: int | None
    tasks_max: int
    io_weight: int


class Place(TypedDict):
    """A host's place in the fleet of an app."""

    index: int
    hosts: int
    held: list[str]  # of those that run once in the fleet: what other hosts have
    takes: bool  # whether this host takes what no host has


class JoinedHttp(TypedDict):
    """How NGINX speaks with clients of an app on another app's site."""

    compress: bool
    stream_s: int
    paths: list[PathLimits]


class Joined(TypedDict):
    """An app that is served below a path of another app's site."""

    name: str
    mount: str
    static: dict[str, str]
    limits: Limits
    http: JoinedHttp


class Entry(Given):
    """A checked entry of the inventory's `apps`, with what the others say of it."""

    joined: list[Joined]
    config_secrets: NotRequired[list[str]]  # their names, while an inventory is checked


class Manifest(Artifact):
    """`release.json`: what a release is."""

    id: str
    settings: Settings
    secrets: NotRequired[dict[str, str]]  # by name, the beginning of a digest


class Rendered(TypedDict):
    """What templates make of an entry; texts of files."""

    vassal: str
    site: str
    units: dict[str, str]  # of systemd, by name


class Parts(Rendered):
    """What is made on the controller for a release; texts of files."""

    slot: dict[str, str]  # the files of praetor_slot, by name
    config: str
    env: dict[str, str]  # names and values
    sbom: str


class Content(Parts):
    """What a release is filled with on a host."""

    secrets: dict[str, str]  # names and values


class Target(TypedDict):
    """A release that is to be live on all hosts, where it is already."""

    app: str
    id: str
    server_name: str
    options: Options
    batches: list[list[str]]  # of hosts
    places: NotRequired[dict[str, Place]]  # by host


class Travel(Target):
    """How a release gets to hosts that do not have it."""

    commands: Commands
    migrate_hosts: list[str]


class Release(Travel):
    """A release that is to be brought to the hosts, and to be live on all of them."""

    manifest: Manifest
    parts: Parts
    files: dict[str, str]  # their places on the controller, by SHA-256


class Copy(TypedDict):
    """A release as a host has it that serves it."""

    app: str
    manifest: Manifest
    parts: Parts
    secrets: dict[str, str]
    files: dict[str, str]


class Looked(TypedDict, total=False):
    """What the live slot of an app answers, and how its workers are."""

    server_name: str
    path: str
    health: str
    workers: int
    busy: int
    requests: int


class Running(TypedDict):
    """A unit of a process, and how it is."""

    process: str
    number: int  # of the slot that it was started with
    instance: int
    release: str
    state: str  # systemd's ActiveState
    restarts: int
    ended: str  # how it ended last: its exit status or signal


class Scheduled(TypedDict):
    """A job on a host, and how it was when it last ran."""

    job: str
    next: str  # in systemd's words; empty where it is not scheduled
    running: bool
    result: str  # success, or why it failed


class AppSurvey(Looked):
    """What a host has of one app."""

    app: str
    provisioned: bool
    python: str
    live: str | None
    slot: str | None
    since: str | None
    running: bool
    outdated: list[str]  # why the live slot should be started again
    releases: list[str]
    bad: dict[str, Mark]
    before: str | None  # the release that a rollback goes to
    frozen: Freeze | None
    leftovers: list[str]
    journal: Journal | None
    settled: bool
    made_live_by: str | None  # the id of the run that did, if it went well
    made_live_on: NotRequired[list[str]]  # the app hosts that this run knew; an earlier version does not tell
    site: bool
    share: dict[str, int]  # how many of each process run here
    refused: NotRequired[list[str]]  # what it tried to connect to and may not; an earlier version does not tell
    processes: list[Running]
    jobs: list[Scheduled]
    nginx_waits_s: int | None
    manifest: Manifest | None  # of what is live
    # With the manifest of a release that is about to be made live: what it takes.
    uncertified: NotRequired[list[str]]
    staged: NotRequired[bool]
    missing: NotRequired[list[str]]
    needed: NotRequired[bool]
    # With the last lines of the history.
    history: NotRequired[list[Event]]


class Survey(TypedDict, total=False):
    """What is on a host; a host that did not answer has none of it, and `away` or `msg` says why."""

    apps: dict[str, AppSurvey]
    others: list[str]  # apps that nobody asked for
    python: str
    drained: Drained | None
    closed: dict[str, int]  # apps in maintenance, each with the second at which that ends
    away: str
    msg: str
    # What tables need to know besides, from the controller.
    address: str
    tls: bool
    authority: str  # a file, where clients do not know the authority yet
    balancers: dict[str, Servers]  # what they say, by balancer; it lies with the first host
    fleet: list[str]


Surveys = dict[str, Survey]  # by host


class Answer(TypedDict, total=False):
    """What a host answers to any work: whether anything changed, and why it failed, if it did. Other keys are the work's own."""

    changed: bool
    reason: str | None  # why it failed, for the operator; None when it did not
    bad: bool  # it failed under traffic
    full: str  # the place whose file system has no room, if that is why
    holder: Journal  # of the run that has the app
    failed: bool  # there is no answer from the host; `msg` says why
    msg: str


class PhaseAnswer(Answer, total=False):
    """What the phases of a run answer."""

    repaired: list[str]  # sentences on what was done about an interrupted run
    staged: bool
    output: list[str]  # of migrations
    slot: str
    bake: Bake
    done: list[str]
    live: str | None


class SlotCore(TypedDict):
    """A thread of a worker, as uWSGI's stats server has it."""

    in_request: int


class SlotWorker(TypedDict):
    """A worker, as the stats server of its slot has it; one that was not started yet has no process."""

    id: int
    pid: int
    accepting: int
    requests: int
    exceptions: int
    harakiri_count: int
    respawn_count: int
    cores: NotRequired[list[SlotCore]]


class Vassal(TypedDict):
    """A slot, as the stats server of its Emperor has it."""

    id: str  # the name of its vassal file
    pid: int
    accepting: int
    cursed: NotRequired[int]  # it is to end
    attempt: NotRequired[int]  # how often its start has failed


class Stats(TypedDict, total=False):
    """What is read of the answer of a stats server: a slot has workers, an Emperor vassals and a blacklist."""

    pid: int
    workers: list[SlotWorker]
    vassals: list[Vassal]
    blacklist: list[Vassal]


class Note(TypedDict, total=False):
    """What a worker of a slot notes about itself, or its watch: the requests that it ended, by worker."""

    pid: int
    loaded: bool
    failures: int  # how often it could not load the app
    error: str
    ended: dict[str, int]


class LogLine(TypedDict):
    """A line that NGINX, a balancer or an app wrote about a request."""

    ts: float
    source: Literal["nginx", "app", "haproxy"]
    said: Any  # an object where it was one in JSON, else text
    host: NotRequired[str]


class Story(TypedDict):
    """What a phase's task tells about its failure."""

    phase: str
    reason: str
    bad: bool  # the release failed under traffic


class FailedPhase(TypedDict):
    """The result of a phase's task that failed, see `praetor.run.failures`."""

    changed: bool
    failed: Literal[True]
    msg: str
    # Ansible prints a message twice and for each host; keys with the prefix _ansible_ it does not print, and keeps them in ansible_failed_result.
    _ansible_praetor_story: Story


class Failure(TypedDict):
    """Why a run failed on all hosts, as one of them knows it."""

    what: str
    reasons: dict[str, str]  # by host
    bad: bool
    reason: str  # why the run ended on this host
