"""What one entry of the inventory's `apps` may say: keys, types, ranges, defaults and their meaning.

This is the only place for them: the check (`praetor.inventory.check`), the types that the rest of the engine knows an entry by (`praetor.entry`) and
docs/reference/apps.md are made from it. A new key is a field here, and what uses it.
Runs on the controller only; no module sends it to a host.
"""

import ipaddress
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from praetor.host.sandbox import LOOSER

# Variables that a release sets itself: an app's own must not replace them.
RESERVED_VARIABLES = frozenset(
    {
        "APP_NAME",
        "APP_PROFILE",
        "APP_RELEASE",
        "APP_COMMIT",
        "APP_DATA_DIR",
        "APP_CONFIG_FILE",
        "APP_SECRETS_DIR",
        "APP_PROCESS",
        "PROMETHEUS_MULTIPROC_DIR",
    }
)

# An app's name becomes a system user and a group. Taken: the static ones of Debian's base-passwd, and what the packages
# on such a host bring. Names with a dash cannot collide: an app's name has none.
SYSTEM_NAMES = frozenset(
    """
    root daemon bin sys sync games man lp mail news uucp proxy backup list irc gnats nobody
    adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev
    staff users nogroup input sgx kvm render crontab ssh sshd messagebus polkitd syslog tss ntp chrony ntpsec
    nginx uwsgi prometheus haproxy keepalived postgres mysql redis memcache postfix dnsmasq unbound bind
    admin debian ansible
    """.split()  # noqa: SIM905  # a hundred quotes and commas would hide the names
)

# What the wrapper that starts a slot calls its own variables: it would take an app's for its own.
WRAPPER_VARIABLES = frozenset({"IFS", "file", "release", "slot", "value", "vassal"})

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
# A factory's arguments are literals, as `flask --app` takes them; the text goes into uWSGI's file, so it has none of that file's own signs.
_LITERAL = r"""(?:[A-Za-z_]\w*=)?(?:'[\w./: @-]*'|"[\w./: @-]*"|-?\d+|True|False|None)"""
_WSGI = re.compile(rf"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\((?:{_LITERAL}(?:, ?{_LITERAL})*)?\))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROFILE = re.compile(r"[a-z][a-z0-9_-]*")
_BATCH = re.compile(r"[1-9][0-9]{0,3}|([1-9][0-9]?|100)%")
_SCP_URL = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:\S+")
_EXTENSION = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"})


@dataclass(frozen=True)
class Must:
    """What a value must be, in words for people, and the rule behind the words.

    `check` gets a value of the right type and returns what is wrong with it, or an empty string when only the words of
    `be` can say it, or None when nothing is wrong.
    """

    be: str
    check: Callable[[Any], str | None] = lambda _value: None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Run the rule after pydantic's own check of the type."""

        def run(value: object) -> object:
            reason = self.check(value)
            if reason is not None:
                raise ValueError(reason)
            return value

        return core_schema.no_info_after_validator_function(run, handler(source))


def whole(low: int, high: int) -> Must:
    """Return the rule of a whole number from `low` to `high`."""
    return Must(f"a whole number from {low} to {high}", lambda value: None if low <= value <= high else "")


def number(low: float, high: float) -> Must:
    """Return the rule of a number from `low` to `high`."""
    return Must(f"a number from {low:g} to {high:g}", lambda value: None if low <= value <= high else "")


def match(pattern: re.Pattern[str], be: str) -> Must:
    """Return the rule of a string that matches the whole `pattern`."""
    return Must(be, lambda value: None if pattern.fullmatch(value) else "")


def variable_problem(name: str) -> str | None:
    """Say what is wrong with the name of an environment variable, None when nothing is."""
    if name in RESERVED_VARIABLES:
        return "every release sets this variable itself"
    if name in WRAPPER_VARIABLES:
        return "the start of a slot uses this name"
    if name.startswith("UWSGI_"):
        return "uWSGI takes variables of this prefix for its own options"
    return None if _VARIABLE.fullmatch(name) else ""


def _name_problem(value: str) -> str | None:
    if value in SYSTEM_NAMES:
        return "the name of a system user or group"
    return None if _NAME.fullmatch(value) else ""


def _host_problem(value: str) -> str | None:
    if not value.isascii():
        return _international(value)
    if "://" in value or "/" in value or ":" in value:
        return "a host name has no scheme, port or path"
    if value != value.lower():
        return "not in lower case"
    return None if len(value) <= 253 and all(map(_LABEL.fullmatch, value.split("."))) else ""


def _international(value: str) -> str:
    """Say how a name with other letters than a to z is written here."""
    try:
        return f"browsers ask for it as {value.lower().encode('idna').decode()}: write that"
    except UnicodeError:
        return "no host name"


def _served_problem(value: str) -> str | None:
    return _host_problem(value.removeprefix("*."))


def _header_problem(value: dict[str, str]) -> str | None:
    for name, text in value.items():
        if not _HEADER.fullmatch(name):
            return f"{name} is no name of a header"
        if not re.fullmatch(r"[\x20-\x7e]*", text):
            return f"the value of {name} has characters that headers cannot have"
        if "$" in text:
            return f"NGINX would take $ in {name} for a variable"
    return None


def _http_path_problem(value: str) -> str | None:
    return None if re.fullmatch(r"/[A-Za-z0-9._~/-]*", value) else ""


def _git_problem(value: str) -> str | None:
    if _SCP_URL.fullmatch(value):
        return None
    url = urlsplit(value)
    if url.password is not None or (url.username is not None and url.scheme != "ssh"):
        return "credentials in a URL end up in logs and manifests; use ssh or a git credential helper"
    known = url.scheme in {"https", "ssh", "file"} and url.path.strip("/")
    return None if known and not re.search(r"\s", value) else ""


def _package_problem(value: str) -> str | None:
    try:
        requirement = Requirement(value)
    except InvalidRequirement:
        return ""
    pins = list(requirement.specifier)
    pinned = [pin.operator for pin in pins] == ["=="] and not pins[0].version.endswith(".*")
    if requirement.url or requirement.marker or not pinned:
        return "not pinned to one version"
    return None


def _path_problem(value: str) -> str | None:
    return None if value.startswith("/") and value.isascii() and not re.search(r"[\s#]", value) else ""


def _plain_word_problem(value: str) -> str | None:
    return None if value and not value.startswith("-") and not re.search(r"\s", value) else ""


def _place_problem(value: str) -> str | None:
    """A place inside a project: relative, and not out of it."""
    parts = value.split("/")
    if value.startswith("/") or ".." in parts:
        return "it leads out of the project"
    return None if value and not re.search(r"[\s\0]", value) else ""


def _static_problem(value: dict[str, str]) -> str | None:
    """URL paths to places of the project."""
    for path, place in value.items():
        if (
            path.strip("/") == ""
            or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", path)
            or {".", ".."} & set(path.split("/"))
        ):
            return f"{path} is no path such as /static"
        reason = _place_problem(place.removesuffix("/"))
        if reason is not None or place.strip("./") == "":
            return f"{place or 'nothing'} is no place in the project" + (f": {reason}" if reason else "")
    return None


def _mount_problem(value: str) -> str | None:
    return None if re.fullmatch(r"((/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+)?", value) else ""


def _data_problem(value: str) -> str | None:
    place = value.removesuffix("/")
    if place in {"", ".", "venv"} or place.startswith("venv/lib"):
        return "an app must not be able to write to its own code"
    return _place_problem(place)


def _requirement_problem(value: str) -> str | None:
    try:
        Requirement(value)
    except InvalidRequirement:
        return ""
    return None


def _debian_problem(value: str) -> str | None:
    names = [name.strip() for name in value.split("|")]
    return None if all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in names) else ""


def _text_problem(value: str) -> str | None:
    if "\0" in value:
        return "it holds a NUL character"
    # Linux: one string of an environment is at most 128 KiB, name and final NUL included.
    return "it is longer than a variable can be" if len(value.encode()) > 130_000 else None


def _empty_problem(value: list[str]) -> str | None:
    return None if value else ""


def _secret_problem(value: str) -> str | None:
    return _text_problem(value) if value else "it is empty"


def _split_command(value: object) -> object:
    """Turn a command written as one string into its arguments; anything else passes unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(str(error).lower()) from error


def _command_problem(value: list[str]) -> str | None:
    if not value or not value[0]:
        return "no program is named"
    if value[0].startswith("-"):
        return "this is an argument, not a command: write a command as one string, or as a list inside the list"
    if words := sorted(_SHELL_WORDS.intersection(value)):
        return f"no shell runs commands, so {words[0]} has no meaning"
    return None


def _batch_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _workers_problem(value: int | str) -> str | None:
    return None if value == "auto" or (isinstance(value, int) and 1 <= value <= 64) else ""


_SHARE = 'MiB as a whole number from 64, or a share of the host from "1%" to "100%"'
_LOOSENED = (
    f"a mapping of directives to reasons; directives are {', '.join(sorted(set(LOOSER) - {'MemoryDenyWriteExecute'}))}"
)


def _network_problem(value: str) -> str | None:
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        is_name = re.search(r"[A-Za-z]", value) and ":" not in value
        return "the addresses of a name change, and rules know none" if is_name else ""
    if isinstance(meant, ipaddress.IPv6Network) and meant.network_address.ipv4_mapped:
        return "connections to it are of IPv4: write it so"
    base, _, length = value.partition("/")
    exact = (
        "%" not in value and ipaddress.ip_address(base) == meant.network_address and (not length or length.isdecimal())
    )
    return None if exact else f"the network that it is in is {meant}"


def _share_problem(value: int | str) -> str | None:
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return None if value >= 64 else ""
    return None if re.fullmatch(r"([1-9][0-9]?|100)%", value) else ""


def _loosened_problem(value: dict[str, str]) -> str | None:
    if "MemoryDenyWriteExecute" in value:
        return "this one is allowed by write_execute: true"
    if unknown := sorted(set(value) - set(LOOSER)):
        return f"{unknown[0]} cannot be loosened"
    bare = sorted(name for name, reason in value.items() if not reason.strip())
    return f"{bare[0]} has no reason" if bare else None


# What systemd.time(7) takes, roughly: names, or a weekday, a date, a time and a zone, of which some may be missing. The gate asks systemd.
_AT = re.compile(
    r"(minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually)( \S+)?"
    r"|(?=\S)([A-Z][a-z]{2}[A-Za-z,.]*( |$))?([0-9*/,.~]+(-[0-9*/,.~]+)+( |$))?([0-9*/,.]+:[0-9*/,.]+(:[0-9*/,.]+)?( |$))?([A-Z][A-Za-z]*(/[A-Za-z_]+)*)?"
)


def _at_problem(value: str) -> str | None:
    return None if value and _AT.fullmatch(value) else ""


HostName = Annotated[str, Must("a host name in lower case, such as api.example.org", _host_problem)]
ServedName = Annotated[
    str, Must("a host name in lower case, such as api.example.org or *.example.org", _served_problem)
]
Command = Annotated[
    list[str],
    BeforeValidator(_split_command),
    Must('a command, such as "python -m api.migrate" or [python, -m, api.migrate]', _command_problem),
]
Batch = Annotated[
    str, BeforeValidator(_batch_text), match(_BATCH, 'a count of hosts, or a share of them from "1%" to "100%"')
]
Text = Annotated[str, Must("a string", _text_problem)]
Secret = Annotated[str, Must("a string that is not empty, encrypted with ansible-vault", _secret_problem)]


class Part(BaseModel):
    """What all parts of an entry share: no unknown keys, no conversion of types, no change afterwards."""

    # Built when something is checked with it: an entry's parts are built within it, and each alone would cost a run as much again.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Source(Part):
    """Where the app comes from: exactly one of `path`, `git` (with `ref`) or `package`."""

    path: Annotated[str, Must("the directory of a Python project, relative to this repository or absolute")] | None = (
        Field(
            default=None,
            description="Directory of the project on the controller, relative to this repository or absolute. What git tracks is shipped, "
            "and what is new and not ignored.",
            examples=["path: ../shop"],
        )
    )
    git: (
        Annotated[str, Must("a git URL (https, ssh, file or user@host:path) without credentials", _git_problem)] | None
    ) = Field(
        default=None,
        description="URL of a git repository; needs `ref`. Submodules and Git LFS files come along.",
        examples=["git: git@git.example.org:shop.git"],
    )
    ref: Annotated[str, Must("a tag, branch or commit", _plain_word_problem)] | None = Field(
        default=None,
        description="Tag, branch or commit of `git`. A tag or a commit makes the release repeatable.",
        examples=["ref: v1.4.0"],
    )
    subdir: Annotated[str, Must("a directory of the repository", _place_problem)] | None = Field(
        default=None,
        description="Directory of the project in the repository of `git`.",
        examples=["subdir: services/api"],
    )
    package: Annotated[str, Must("NAME==VERSION", _package_problem)] | None = Field(
        default=None,
        description="Package of the package index with its exact version.",
        examples=['package: "radicale==3.5.0"'],
    )
    requirements: Annotated[str, Must("a file of the project", _place_problem)] | None = Field(
        default=None,
        description="File of the project that says what it needs. None given: the first of uv.lock, pylock.toml, requirements.txt, "
        "pyproject.toml, setup.py.",
        examples=["requirements: requirements/prod.txt"],
    )
    extras: list[Annotated[str, Must("the name of an extra", _plain_word_problem)]] = Field(
        default_factory=list,
        description="Extras of the project (`project.optional-dependencies`) to install.",
        examples=["extras: [postgres]"],
    )
    extra_requirements: list[
        Annotated[str, Must("a requirement, such as psycopg2-binary>=2.9", _requirement_problem)]
    ] = Field(
        default_factory=list,
        description="What is installed besides what the project or package says it needs, in versions that fit its lock.",
        examples=["extra_requirements: [psycopg2-binary]"],
    )
    include: list[Annotated[str, Must("a file, directory or pattern in the project", _place_problem)]] = Field(
        default_factory=list,
        description="Files that git ignores and the app needs, such as what a pipeline has built, or that a package's wheel has not, such as wsgi.py next to it; they must be there.",
        examples=['include: ["static/bundle"]'],
    )


class Health(Part):
    """How a slot shows that it can serve; asked on its private socket before the flip, as a client that came by HTTPS would ask."""

    path: Annotated[str, Must("a path that begins with /", _path_problem)] | None = Field(
        default=None,
        description="Path of the request, with its query if it needs one. Without it `/` is asked, and any answer below 500 counts: "
        "that shows that the app runs, and not that it can work.",
    )
    status: Annotated[int, whole(100, 599)] | None = Field(
        default=None, description="Status that means healthy; with a `path` it is 200 if not given."
    )
    timeout_s: Annotated[int, whole(1, 600)] = Field(
        default=30, description="Seconds that a new slot has to answer for the first time before the release fails."
    )
    warmup_s: Annotated[int, whole(0, 600)] = Field(
        default=5, description="Seconds that a slot which already answers may take to answer with `status`."
    )


class Limits(Part):
    """What one request and one worker may use, and the app as a whole: its slots, and all that it starts."""

    request_s: Annotated[int, whole(1, 3600)] = Field(
        default=30,
        description="Seconds that a request may last; then its worker is ended and the client gets an error.",
    )
    body_mb: Annotated[int, whole(1, 10240)] = Field(
        default=1, description="Largest request body, in MiB; more is answered 413."
    )
    memory_mb: Annotated[int, whole(32, 65536)] = Field(
        default=512, description="MiB of resident memory after which a worker is replaced, once its request is done."
    )
    memory_max: Annotated[int | str, Must(_SHARE, _share_problem)] = Field(
        default="80%",
        description="Memory that the app as a whole may take; beyond it the kernel ends processes of the app, and of no other.",
    )
    memory_high: Annotated[int | str, Must(_SHARE, _share_problem)] = Field(
        default="70%", description="Memory from which on the app as a whole is slowed down and its memory reclaimed."
    )
    cpu_weight: Annotated[int, whole(1, 10000)] = Field(
        default=100, description="Share of the processor when apps compete for it; an app with 200 gets twice as much."
    )
    cpu_quota: Annotated[int, whole(1, 100000)] | None = Field(
        default=None,
        description="Percent of one processor that the app never exceeds; none given: no limit while nobody else needs it.",
    )
    tasks_max: Annotated[int, whole(16, 1_000_000)] = Field(
        default=4096, description="Processes and threads of the app as a whole, two slots during a release."
    )
    io_weight: Annotated[int, whole(1, 10000)] = Field(
        default=100, description="Share of the disks when apps compete for them."
    )


class Sandbox(Part):
    """Which parts of systemd's sandbox an app cannot live with. A change is another release."""

    write_execute: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="Allow memory that is writable and executable, for JITs (numba) and callbacks of cffi and ctypes.",
    )
    loosened: Annotated[dict[str, Text], Must(_LOOSENED, _loosened_problem)] = Field(
        default_factory=dict,
        description="Other directives of the sandbox that do not hold for this app, each with the reason; status.yml shows them.",
    )


class Outgoing(Part):
    """What an app may connect to: addresses and networks, and ports there."""

    to: Annotated[
        list[
            Annotated[
                str, Must("an address or a network, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32", _network_problem)
            ]
        ],
        Must("a list of addresses and networks", _empty_problem),
    ] = Field(
        description="Addresses and networks of either family; `0.0.0.0/0` and `::/0` are everything.",
        examples=["to: [192.0.2.0/24]"],
    )
    ports: list[Annotated[int, whole(1, 65535)]] = Field(
        default_factory=list, description="Ports there; none given: all of them."
    )
    protocol: Annotated[Literal["tcp", "udp"], Must('"tcp" or "udp"')] = Field(
        default="tcp", description="What the ports are of."
    )


class Process(Part):
    """A program of the app that runs all the time, such as a queue worker: a unit of each release, with the app's user, slice and sandbox."""

    name: Annotated[str, match(_NAME, "a name of a-z, 0-9 and _ that begins with a letter, at most 31 characters")] = (
        Field(description="Name of the process, unique in the app.", examples=["name: worker"])
    )
    command: Command = Field(
        description="The program and its arguments; no shell. `${APP_PROCESS}` in it, and the variable of that name, is a name that no other "
        "start on the host has, such as app-shop-worker-17-1.",
        examples=['command: "celery -A shop.tasks worker -n ${APP_PROCESS}@%h"'],
    )
    per_host: Annotated[int, whole(1, 64)] | None = Field(
        default=None, description="How often it runs on each host; 1 when neither this nor `count` nor `one` is given."
    )
    count: Annotated[int, whole(1, 1024)] | None = Field(
        default=None, description="How often it runs in the whole fleet, spread over the app's hosts in their order."
    )
    one: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="Exactly one in the fleet, as a scheduler must be: a release ends the old one before it starts the new one, and move.yml moves "
        "it to another host.",
    )
    notify: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="Whether the program tells systemd READY=1 (sd_notify) once it works; without, one that has lived 3 s counts as ready.",
    )
    drain_s: Annotated[int, whole(1, 86400)] = Field(
        default=60,
        description="Seconds that it has to finish what it is doing when it is asked to end; then it is killed. No release waits for it, but for `one`.",
    )
    stop_signal: Annotated[
        Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"],
        Must("one of SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2"),
    ] = Field(default="SIGTERM", description="The signal that asks it to end after what it is doing.")
    memory_mb: Annotated[int, whole(16, 1_000_000)] | None = Field(
        default=None, description="MiB that each one may take; beyond it the kernel ends processes of it."
    )


class Job(Part):
    """A program of the app that runs at certain times: a timer of systemd, which starts it from the release that is live then."""

    name: Annotated[str, match(_NAME, "a name of a-z, 0-9 and _ that begins with a letter, at most 31 characters")] = (
        Field(description="Name of the job, unique among the app's jobs and processes.", examples=["name: cleanup"])
    )
    command: Command = Field(
        description="The program and its arguments; no shell.", examples=['command: "flask --app shop.wsgi cleanup"']
    )
    at: Annotated[str, Must('when, in the words of systemd.time(7), such as "*-*-* 03:10" or hourly', _at_problem)] = (
        Field(
            description="When it runs, in the words of systemd.time(7) and the host's time; up to 30 s later, so that not all start at once.",
            examples=['at: "Mon *-*-* 03:10"'],
        )
    )
    on: Annotated[Literal["once", "each"], Must('"once" or "each"')] = Field(
        default="once", description="On one host of the fleet, or on each."
    )
    timeout_s: Annotated[int, whole(1, 604_800)] = Field(
        default=3600, description="Seconds after which it is ended, and has failed."
    )
    catch_up: Annotated[bool, Must("true or false")] = Field(
        default=False, description="Whether it runs at once when its time has passed while the host was off."
    )


class PathLimits(Part):
    """Limits of the requests below one path, in place of the app's."""

    path: Annotated[str, Must("a path that begins with /, of letters, digits and . _ ~ / -", _http_path_problem)] = (
        Field(
            description="All requests whose path begins with this; of several the longest counts.",
            examples=["path: /export"],
        )
    )
    request_s: Annotated[int, whole(1, 3600)] | None = Field(
        default=None, description="In place of `limits.request_s`."
    )
    body_mb: Annotated[int, whole(1, 10240)] | None = Field(default=None, description="In place of `limits.body_mb`.")
    stream: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="Whether answers are passed on at once, piece by piece, and may last `http.stream_s`. Event streams need not be named: "
        "their content type, text/event-stream, says it.",
    )
    app: Annotated[str, Must("the name of another app, whose mount is this path", _name_problem)] | None = Field(
        default=None,
        description="Another app that answers these requests, with its limits: its `mount` is `path`.",
    )


class Access(Part):
    """Who may reach an app that is not for the public: with both keys a client needs both."""

    users: Annotated[str, match(_VARIABLE, "the name of one of secrets, such as SITE_USERS")] | None = Field(
        default=None,
        description="One of `secrets`, with a line NAME:HASH for each user. NGINX asks for name and password; the app finds the name in the header "
        "Authorization, and the hashes nowhere.",
        examples=["users: SITE_USERS"],
    )
    authority: (
        Annotated[str, Must("a PEM file with certificates of authorities, relative to this repository")] | None
    ) = Field(
        default=None,
        description="File with the certificates of the authorities whose clients are let in. The app finds whom it speaks with in SSL_CLIENT_S_DN.",
        examples=["authority: inventories/prod/clients.pem"],
    )


class Http(Part):
    """How NGINX speaks with clients of the app."""

    compress: Annotated[bool, Must("true or false")] = Field(
        default=True, description="Whether text, JSON, JavaScript and the like are compressed for clients that take it."
    )
    stream_s: Annotated[int, whole(1, 86400)] = Field(
        default=3600,
        description="Seconds that an event stream may last. Each one holds a thread of a worker for that time.",
    )
    paths: list[PathLimits] = Field(
        default_factory=list,
        description="Paths with separate limits (`path` and `request_s`, `body_mb`, `stream`), or of another app: `{path: /shop, app: shop}` gives all "
        "below /shop to the app of this name, whose `mount` is /shop.",
        examples=["paths: [{path: /upload, body_mb: 500, request_s: 300}, {path: /blog, app: blog}]"],
    )
    headers: Annotated[dict[str, str], Must("a mapping of header names to strings", _header_problem)] = Field(
        default_factory=dict,
        description="Headers added to every answer, such as Content-Security-Policy; one that the app sends too is replaced.",
    )
    access: Access | None = Field(
        default=None,
        description="Who may reach the app, for one that is not for the public. `users` names one of `secrets`, which holds a line NAME:HASH for each "
        "user and is not given to the app. `authority` is a file with the certificates of those who issue the clients' certificates. With both, a client needs both.",
        examples=["access: {users: SITE_USERS}"],
    )
    directives: Annotated[str, Must("a file with NGINX directives, relative to this repository")] | None = Field(
        default=None,
        description="File with NGINX directives for what has no key here. They stand in the site's `server` block, and are checked with the whole configuration.",
    )


class Commands(Part):
    """Programs of the app, run from the staged release as the app's user with its environment, without a shell."""

    check: list[Command] = Field(
        default_factory=list, description="Run on every host before anything starts; a failure ends the release."
    )
    migrate: list[Command] = Field(
        default_factory=list, description="Run after all hosts are staged and before the first slot starts."
    )
    migrate_on: Annotated[Literal["once", "each"], Must('"once" or "each"')] = Field(
        default="once", description="Run `migrate` on one host per run, or on each host (storage of the host's own)."
    )


class Release(Part):
    """How a release goes over the hosts, and what makes it go back."""

    keep: Annotated[int, whole(1, 50)] = Field(default=5, description="Releases kept on a host, to roll back to.")
    bake_s: Annotated[int, whole(0, 3600)] = Field(
        default=15, description="Seconds to watch a flipped host under real traffic, the old slot still warm."
    )
    max_5xx_ratio: Annotated[float, number(0, 1)] = Field(
        default=0.01,
        description="Share of responses with a 5xx status during the bake above which the release flips back.",
    )
    max_p95_factor: Annotated[float, number(1, 1000)] = Field(
        default=3.0,
        description="How many times slower than before the flip the 95th percentile may be during the bake.",
    )
    min_requests: Annotated[int, whole(1, 1_000_000)] = Field(
        default=20, description="Requests needed during the bake before a share or a percentile is judged."
    )
    batches: Annotated[list[Batch], Must('a list such as ["1", "25%"]', _empty_problem)] = Field(
        default_factory=lambda: ["1", "25%"],
        description="Hosts flipped at a time, in order; the last one repeats until all are flipped.",
    )
    drain_s: Annotated[int, whole(1, 3600)] = Field(
        default=60,
        description="Seconds that the old slot has to finish its requests before it is ended anyway.",
    )


class Database(Part):
    """A database of the app's own on the group database_hosts."""

    name: Annotated[str, Must("a name of a-z, 0-9 and _ that begins with a letter", _name_problem)] | None = Field(
        default=None, description="Name of the database and of the only role that may use it; the app's when missing."
    )
    connections: Annotated[int, whole(2, 10_000)] | None = Field(
        default=None,
        description="Most connections that the app may have. When missing: app hosts x workers (`auto` counts as 8) x threads "
        "x 2 (during a release two slots run), and 5 for its commands.",
    )
    extensions: list[Annotated[str, match(_EXTENSION, "the name of an extension, such as pg_trgm")]] = Field(
        default_factory=list, description="Extensions of PostgreSQL that the database has."
    )


def _database(value: object) -> object:
    """`true` is a database with every default, `false` none."""
    return {True: {}, False: None}.get(value, value) if isinstance(value, bool) else value


class Redis(Part):
    """A queue and a cache of the app's own on the group redis_hosts, each in its own instance of Redis."""

    queue: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="A queue: nothing in it is dropped to make room, and it is on disk. The app finds its address in REDIS_URL, RQ_REDIS_URL and "
        "CELERY_BROKER_URL.",
    )
    cache: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="A cache: what was used least makes room, and a restart empties it. The app finds its address in CACHE_URL.",
    )
    queue_mb: Annotated[int, whole(16, 65536)] = Field(
        default=256,
        description="MiB that the queue may take; beyond it what adds to the queue is refused with an error.",
    )
    cache_mb: Annotated[int, whole(16, 65536)] = Field(default=128, description="MiB that the cache may take.")
    port: Annotated[int, whole(20_000, 29_998)] | None = Field(
        default=None,
        description="Port of the queue; the cache has the next one. Made from the app's name when missing: from 20000 to 29999.",
    )


class App(Part):
    """One app: a WSGI application that the hosts of the play serve, or processes and jobs alone."""

    name: Annotated[
        str,
        Must("a name of a-z, 0-9 and _ that begins with a letter, at most 31 characters", _name_problem),
    ] = Field(description="Name of the app, its system user, its paths and its metrics.", examples=["name: shop"])
    source: Source = Field(description="Where the app comes from.", examples=["source: {path: shop}"])
    wsgi: (
        Annotated[
            str,
            match(_WSGI, "module:callable, such as api.wsgi:app, shop:create_app() or shop:create_app('production')"),
        ]
        | None
    ) = Field(
        default=None,
        description="Module and WSGI callable; `module:factory()` calls a factory, also with plain values: `shop:create_app('production', debug=False)`. An app without it has `processes` or `jobs` and no site.",
        examples=["wsgi: shop.wsgi:app"],
    )
    server_names: Annotated[list[ServedName], Must("a list of host names", _empty_problem)] = Field(
        default_factory=list,
        description="Host names that NGINX serves this app for; an app with `wsgi` needs one. `*.example.org` is any name below it; the first is a plain name.",
        examples=["server_names: [shop.example.org]"],
    )
    redirect_names: list[HostName] = Field(
        default_factory=list,
        description="Host names whose visitors are sent to the first of `server_names`, with path and query.",
        examples=["redirect_names: [www.shop.example.org]"],
    )
    mount: Annotated[str, Must("a path such as /shop", _mount_problem)] = Field(
        default="",
        description="URL path below which the app is: it gets SCRIPT_NAME /shop, so that url_for is right, and the paths in `static`, `health` and "
        "`http.paths` are below it. Other paths are answered 404. Another app's `http.paths` can lead here.",
        examples=["mount: /shop"],
    )
    build: list[Command] = Field(
        default_factory=list,
        description="Commands on the controller, in a copy of the project's tree before it is packed; what they make is in the release. "
        "They find the app's packages, its `env` and APP_COMMIT, APP_VERSION.",
        examples=['build: ["npm ci", "npm run build", "python manage.py collectstatic --noinput"]'],
    )
    data: list[Annotated[str, Must("a place in the project's tree, or in venv/", _data_problem)]] = Field(
        default_factory=list,
        description="Places in the project's tree that the app writes to: they lie in its data directory, which outlives releases. One whose "
        "name has an extension is a file, or ends with / and is a directory. Everything else of a release is read-only.",
        examples=["data: [instance, logs, app.db, venv/var]"],
    )
    static: Annotated[
        dict[str, str],
        Must(
            "a mapping of URL paths to directories or files of the project, such as {/static: static}", _static_problem
        ),
    ] = Field(
        default_factory=dict,
        description="URL paths that NGINX answers itself, with files from a directory (or one file) of the project or of an installed package "
        "(`shop/static`). Names with a hash are kept by browsers for a year; a file that is not there is asked from the app. Files of the release "
        "before still answer after a flip. `.gz` files next to them are used.",
        examples=["static: {/static: static, /favicon.ico: static/favicon.ico}"],
    )
    packages: list[Annotated[str, Must("the name of a Debian package", _debian_problem)]] = Field(
        default_factory=list,
        description="Debian packages that the app needs at run time; installed on each host before a release is staged. `a | b` is either.",
        examples=["packages: [ffmpeg, libmagic1]"],
    )
    build_packages: list[Annotated[str, Must("the name of a Debian package", _debian_problem)]] = Field(
        default_factory=list,
        description="Debian packages that compiling takes, for requirements that publish no wheel; installed on the controller only, in a clean "
        "Debian tree.",
        examples=["build_packages: [libpq-dev]"],
    )
    profile: Annotated[str, match(_PROFILE, "a name such as prod")] = Field(
        default="prod", description="Profile of the app's own configuration; the app finds it in APP_PROFILE."
    )
    config: Annotated[dict[str, Any], Must("a mapping")] = Field(
        default_factory=dict,
        description="Single settings of the app, not secret; written to the file in APP_CONFIG_FILE.",
    )
    secrets: Annotated[dict[str, Secret], Must("a mapping of variable names to vaulted strings")] = Field(
        default_factory=dict,
        description="Vaulted values: files in APP_SECRETS_DIR and environment variables of the same name.",
    )
    env: Annotated[dict[str, Text], Must("a mapping of variable names to strings")] = Field(
        default_factory=dict, description="Plain environment variables, for apps that read those."
    )
    database: Annotated[
        Database | None,
        BeforeValidator(_database),
        Must("true, false, or a mapping with the keys name, connections, extensions"),
    ] = Field(
        default=None,
        description="`true` for a database of the app's own on the group database_hosts; the app finds its address in "
        "DATABASE_URL and in the variables of libpq. A database elsewhere needs no such key: its address goes to `config` or `env`.",
    )
    redis: Annotated[Redis | None, Must("a mapping with queue: true, cache: true or both")] = Field(
        default=None,
        description="A queue, a cache or both of the app's own on the group redis_hosts: docs/redis.md.",
        examples=["redis: {queue: true, cache: true}"],
    )
    health: Health = Field(default_factory=Health, description="How a slot shows that it can serve.")
    workers: Annotated[int | str, Must('"auto" or a whole number from 1 to 64', _workers_problem)] = Field(
        default="auto", description="Worker processes; `auto` is one for each core of the host."
    )
    threads: Annotated[int, whole(1, 64)] = Field(default=2, description="Threads of each worker.")
    preload: Annotated[bool, Must("true or false")] = Field(
        default=False,
        description="Whether the app is loaded once and the workers forked from it, which saves memory and time. Only for apps that open nothing while they "
        "are imported: a connection would be shared by all workers, and threads would run in none.",
    )
    http: Http = Field(default_factory=Http, description="How NGINX speaks with clients of the app.")
    limits: Limits = Field(default_factory=Limits, description="What one request and one worker may use.")
    sandbox: Sandbox = Field(
        default_factory=Sandbox, description="Which parts of the sandbox do not hold for this app."
    )
    egress: Annotated[list[Outgoing] | None, Must("a list such as [{to: [192.0.2.0/24], ports: [443]}]")] = Field(
        default=None,
        description="What the app may connect to; none given: anything, `[]`: nothing. Always allowed are the host itself, the resolvers in its "
        "/etc/resolv.conf, and the database, queue and cache that the entry asks for: docs/security.md.",
        examples=["egress: [{to: [192.0.2.0/24], ports: [443]}]"],
    )
    commands: Commands = Field(default_factory=Commands, description="Programs of the app that a release runs.")
    processes: list[Process] = Field(
        default_factory=list,
        description="Programs of the app that run all the time, such as queue workers. They change hands with a release: docs/processes.md.",
        examples=['processes: [{name: worker, command: "python -m shop.worker", per_host: 2, drain_s: 600}]'],
    )
    jobs: list[Job] = Field(
        default_factory=list,
        description="Programs of the app that run at certain times: docs/processes.md.",
        examples=['jobs: [{name: cleanup, command: "flask --app shop.wsgi cleanup", at: "*-*-* 03:10"}]'],
    )
    release: Release = Field(default_factory=Release, description="How a release goes over the hosts.")


# What says where and how a release travels. Every other key is part of the release: a change is another release.
BESIDES = frozenset(
    {"name", "source", "build", "build_packages", "database", "redis", "secrets", "commands", "release"}
)

# The keys that a release on a host always has, by part. Releases of earlier versions lack the others, so what reads a release there does without them.
# A part that is not named here is in no release.
ALWAYS = {
    "App": {"wsgi", "server_names", "profile", "config", "env", "health", "workers", "threads", "limits"},
    "Health": {"path", "status", "timeout_s"},
    "Limits": {"request_s", "body_mb", "memory_mb"},
    "Sandbox": set[str](),
    "Http": {"compress", "stream_s", "paths", "headers", "access", "directives"},
    "PathLimits": {"path", "request_s", "body_mb", "stream", "app"},
    "Access": {"users", "authority"},
    "Outgoing": {"to", "ports", "protocol"},
    "Process": {"name", "command", "count", "per_host", "one", "notify", "drain_s", "stop_signal", "memory_mb"},
    "Job": {"name", "command", "at", "on", "timeout_s", "catch_up"},
}
