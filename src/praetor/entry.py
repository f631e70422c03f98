"""The types of an entry of the inventory's `apps`, of its parts, and of what a release keeps of it.

Written by docs/generate_reference.py (`make docs`) from praetor.inventory.model. Changes here are overwritten.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Origin(TypedDict):
    """Where the app comes from: exactly one of `path`, `git` (with `ref`) or `package`."""

    path: NotRequired[str]
    git: NotRequired[str]
    ref: NotRequired[str]
    subdir: NotRequired[str]
    package: NotRequired[str]
    requirements: NotRequired[str]
    extras: list[str]
    extra_requirements: list[str]
    include: list[str]


class Database(TypedDict):
    """A database of the app's own on the group database_hosts."""

    name: str | None
    connections: int | None
    extensions: list[str]


class Redis(TypedDict):
    """A queue and a cache of the app's own on the group redis_hosts, each in its own instance of Redis."""

    queue: bool
    cache: bool
    queue_mb: int
    cache_mb: int
    port: int | None


class Health(TypedDict):
    """How a slot shows that it can serve; asked on its private socket before the flip, as a client that came by HTTPS would ask."""

    path: str | None
    status: int | None
    timeout_s: int
    warmup_s: NotRequired[int]


class PathLimits(TypedDict):
    """Limits of the requests below one path, in place of the app's."""

    path: str
    request_s: int | None
    body_mb: int | None
    stream: bool
    app: str | None


class Access(TypedDict):
    """Who may reach an app that is not for the public: with both keys a client needs both."""

    users: str | None
    authority: str | None


class Http(TypedDict):
    """How NGINX speaks with clients of the app."""

    compress: bool
    stream_s: int
    paths: list[PathLimits]
    headers: dict[str, str]
    access: Access | None
    directives: str | None


class Limits(TypedDict):
    """What one request and one worker may use, and the app as a whole: its slots, and all that it starts."""

    request_s: int
    body_mb: int
    memory_mb: int
    memory_max: NotRequired[int | str]
    memory_high: NotRequired[int | str]
    cpu_weight: NotRequired[int]
    cpu_quota: NotRequired[int | None]
    tasks_max: NotRequired[int]
    io_weight: NotRequired[int]


class Sandbox(TypedDict):
    """Which parts of systemd's sandbox an app cannot live with. A change is another release."""

    write_execute: NotRequired[bool]
    loosened: NotRequired[dict[str, str]]


class Outgoing(TypedDict):
    """What an app may connect to: addresses and networks, and ports there."""

    to: list[str]
    ports: list[int]
    protocol: Literal["tcp", "udp"]


class Commands(TypedDict):
    """Programs of the app, run from the staged release as the app's user with its environment, without a shell."""

    check: list[list[str]]
    migrate: list[list[str]]
    migrate_on: Literal["once", "each"]


class Process(TypedDict):
    """A program of the app that runs all the time, such as a queue worker: a unit of each release, with the app's user, slice and sandbox."""

    name: str
    command: list[str]
    per_host: int | None
    count: int | None
    one: bool
    notify: bool
    drain_s: int
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"]
    memory_mb: int | None


class Job(TypedDict):
    """A program of the app that runs at certain times: a timer of systemd, which starts it from the release that is live then."""

    name: str
    command: list[str]
    at: str
    on: Literal["once", "each"]
    timeout_s: int
    catch_up: bool


class Options(TypedDict):
    """How a release goes over the hosts, and what makes it go back."""

    keep: int
    bake_s: int
    max_5xx_ratio: float
    max_p95_factor: float
    min_requests: int
    batches: list[str]
    drain_s: int


class Given(TypedDict):
    """A checked entry: every default is filled in, and its secrets are not in it."""

    name: str
    source: Origin
    wsgi: str | None
    server_names: list[str]
    redirect_names: list[str]
    mount: str
    build: list[list[str]]
    data: list[str]
    static: dict[str, str]
    packages: list[str]
    build_packages: list[str]
    profile: str
    config: dict[str, object]
    env: dict[str, str]
    database: Database | None
    redis: Redis | None
    health: Health
    workers: int | str
    threads: int
    preload: bool
    http: Http
    limits: Limits
    sandbox: Sandbox
    egress: list[Outgoing] | None
    commands: Commands
    processes: list[Process]
    jobs: list[Job]
    release: Options


class Settings(TypedDict):
    """The keys of an entry that are part of a release, as a host has it; one of an earlier version has fewer."""

    wsgi: str | None
    server_names: list[str]
    redirect_names: NotRequired[list[str]]
    mount: NotRequired[str]
    data: NotRequired[list[str]]
    static: NotRequired[dict[str, str]]
    packages: NotRequired[list[str]]
    profile: str
    config: dict[str, object]
    env: dict[str, str]
    health: Health
    workers: int | str
    threads: int
    preload: NotRequired[bool]
    http: NotRequired[Http]
    limits: Limits
    sandbox: NotRequired[Sandbox]
    egress: NotRequired[list[Outgoing] | None]
    processes: NotRequired[list[Process]]
    jobs: NotRequired[list[Job]]


SETTINGS = (
    "wsgi",
    "server_names",
    "redirect_names",
    "mount",
    "data",
    "static",
    "packages",
    "profile",
    "config",
    "env",
    "health",
    "workers",
    "threads",
    "preload",
    "http",
    "limits",
    "sandbox",
    "egress",
    "processes",
    "jobs",
)
