"""The check of the inventory's apps: each kind of mistake, and the words that it is answered with."""

import datetime as dt
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from praetor import documents
from praetor.inventory.check import check_apps, differences, missing
from praetor.inventory.model import App, Commands, Health, Limits, Release, Source
from praetor.pki.authority import Wanted, make
from praetor.pki.pem import public_pem


def keys(model: type[BaseModel]) -> str:
    """Name all keys of a part of the entry, as messages do."""
    return ", ".join(model.model_fields)


KEYS = keys(App)
COMMAND = 'a command, such as "python -m api.migrate" or [python, -m, api.migrate]'
PROJECT = "the directory of a Python project"
DATA = "a place in the project's tree, or in venv/"
DATA_DIR = "${APP_DATA_DIR}, the one variable that is replaced here"
COMMAND = 'a command, such as "python -m api.migrate" or [python, -m, api.migrate]'
SOURCE_KEYS = keys(Source)
NAME = "a name of a-z, 0-9 and _ that begins with a letter, at most 31 characters"
HOST = "a host name in lower case, such as api.example.org or *.example.org"
GIT = "a git URL (https, ssh, file or user@host:path) without credentials"
VARIABLE = "a variable name of A-Z, a-z, 0-9 and _"
VAULTED = "a string that is not empty, encrypted with ansible-vault"
CALLABLE = "module:callable, such as api.wsgi:app, shop:create_app() or shop:create_app('production')"
MODULE = f"{CALLABLE}; or processes or jobs, and no server_names: an app without a site"
BATCH = 'a count of hosts, or a share of them from "1%" to "100%"'
YES = "YAML reads yes, no, on and off as true or false"

NETWORK = "an address or a network, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"

SCHEMA = {
    "$defs": {
        "Log": {
            "type": "object",
            "additionalProperties": False,
            "required": ["level"],
            "properties": {"level": {"enum": ["debug", "info"]}},
        }
    },
    "type": "object",
    "additionalProperties": False,
    "required": ["token", "page_size"],
    "properties": {
        "token": {"type": "string"},
        "page_size": {"type": "integer", "minimum": 1, "maximum": 100},
        "title": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
        "ratio": {"type": "number", "exclusiveMinimum": 0},
        "origins": {"type": "array", "items": {"type": "string"}},
        "log": {"$ref": "#/$defs/Log"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
    },
}


def app(**changes: Any) -> dict[str, Any]:
    """Return a correct app with some keys changed; a key set to ... is left out."""
    entry = {
        "name": "api",
        "source": {"package": "flask==3.1.0"},
        "wsgi": "api.wsgi:app",
        "server_names": ["api.example.org"],
    } | changes
    return {key: value for key, value in entry.items() if value is not ...}


def said(*entries: object, root: Path = Path(), vaulted: frozenset[tuple[str | int, ...]] = frozenset()) -> list[str]:
    """Return what the check says about these apps."""
    return [str(problem) for problem in check_apps(list(entries), root, vaulted).problems]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with a schema and profiles, as a path source finds it; returns the directory around it."""
    package = tmp_path / "app" / "src" / "api"
    (package / "profiles").mkdir(parents=True)
    for profile in ("base", "dev", "prod"):
        (package / "profiles" / f"{profile}.yml").write_text("{}\n")
    (package / "config.schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "app" / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def test_a_minimal_app_gets_every_default() -> None:
    checked = check_apps([app()], Path())
    assert checked.problems == []
    defaults = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in App.model_fields.items()
        if not field.is_required() and name != "secrets"
    }
    whole = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in defaults.items()}
    source = {"package": "flask==3.1.0", "extras": [], "extra_requirements": [], "include": []}
    assert checked.apps == [whole | app(source=source) | {"joined": []}]
    # What an operator counts on, so that no default changes by accident.
    assert (whole["preload"], whole["limits"]["request_s"], whole["limits"]["body_mb"]) == (False, 30, 1)
    assert whole["release"]["batches"] == ["1", "25%"]
    assert checked.secrets == {"api": {}}


def test_secrets_are_returned_apart_from_the_apps() -> None:
    checked = check_apps([app(secrets={"API_TOKEN": "s3cret"})], Path())
    assert checked.secrets == {"api": {"API_TOKEN": "s3cret"}}
    assert "s3cret" not in str(checked.apps)


def test_commands_and_batches_take_the_shorter_forms_too() -> None:
    commands = {"check": ["python -m api.config check", ["python", "-c", "print('a b')"]]}
    checked = check_apps([app(commands=commands, release={"batches": [1, "50%"]})], Path())
    assert checked.problems == []
    assert checked.apps[0]["commands"]["check"] == [
        ["python", "-m", "api.config", "check"],
        ["python", "-c", "print('a b')"],
    ]
    assert checked.apps[0]["release"]["batches"] == ["1", "50%"]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {"git": "https://git.example.org/team/api.git", "ref": "v1.2.0"}},
        {"source": {"git": "git@git.example.org:team/api.git", "ref": "main"}},
        {"source": {"git": "ssh://git@git.example.org/team/api.git", "ref": "0a1b2c3"}},
        {"source": {"package": "httpbin[mainapp]==0.10.2"}},
        {"wsgi": "api:create_app()"},
        {"workers": 4},
        {"server_names": ["api.example.org", "198.51.100.7", "localhost"]},
        {"release": {"bake_s": 0, "max_5xx_ratio": 0}},
        {"limits": {"request_s": 60}},
        {"config": {"a": {"b": [1, 2.5, None, True, "x"]}}},
    ],
)
def test_what_is_correct_is_accepted(changes: dict[str, Any]) -> None:
    assert said(app(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "place", "found", "expected"),
    [
        # unknown keys, at every depth
        ({"heath": {}}, "heath", "an unknown key", f"one of {KEYS}; did you mean health?"),
        ({"zzz": 1}, "zzz", "an unknown key", f"one of {KEYS}"),
        (
            {"limits": {"Request_s": 8}},
            "limits.Request_s",
            "an unknown key",
            f"one of {keys(Limits)}; did you mean request_s?",
        ),
        (
            {"health": {"timeout": 8}},
            "health.timeout",
            "an unknown key",
            f"one of {keys(Health)}; did you mean timeout_s?",
        ),
        (
            {"commands": {"migrations": []}},
            "commands.migrations",
            "an unknown key",
            f"one of {keys(Commands)}; did you mean migrate_on?",
        ),
        (
            {"release": {"bake": 5}},
            "release.bake",
            "an unknown key",
            f"one of {keys(Release)}; did you mean bake_s?",
        ),
        # missing keys
        ({"wsgi": ...}, "wsgi", "nothing (app api)", MODULE),
        ({"name": ...}, "name", "nothing", NAME),
        ({"source": ...}, "source", "nothing (app api)", "a mapping with the keys " + SOURCE_KEYS),
        ({"server_names": ...}, "server_names", "nothing (app api)", "a list of host names"),
        # names
        ({"name": "Api"}, "name", '"Api"', NAME),
        ({"name": "my-api"}, "name", '"my-api"', NAME),
        ({"name": "a" * 32}, "name", '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"', NAME),
        ({"name": "root"}, "name", '"root" (the name of a system user or group)', NAME),
        ({"name": "nobody"}, "name", '"nobody" (the name of a system user or group)', NAME),
        ({"name": "www-data"}, "name", '"www-data"', NAME),
        ({"name": 7}, "name", "7 (YAML reads this as a number or a date: quote it)", NAME),
        # types are strict
        ({"threads": "8"}, "threads", '"8" (a string: leave the quotes out)', "a whole number from 1 to 64"),
        ({"threads": "two"}, "threads", '"two" (a string)', "a whole number from 1 to 64"),
        ({"threads": True}, "threads", f"true ({YES})", "a whole number from 1 to 64"),
        ({"threads": 2.5}, "threads", "2.5 (not whole)", "a whole number from 1 to 64"),
        ({"threads": None}, "threads", "nothing", "a whole number from 1 to 64"),
        ({"profile": True}, "profile", f"true ({YES}: quote it)", "a name such as prod"),
        (
            {"source": {"git": "https://example.org/a.git", "ref": 1.0}},
            "source.ref",
            "1.0 (YAML reads this as a number or a date: quote it)",
            "a tag, branch or commit",
        ),
        (
            {"source": {"git": "https://example.org/a.git", "ref": dt.date(2026, 1, 2)}},
            "source.ref",
            "2026-01-02 (YAML reads this as a number or a date: quote it)",
            "a tag, branch or commit",
        ),
        (
            {"limits": [30]},
            "limits",
            "a list",
            f"a mapping with the keys {keys(Limits)}",
        ),
        ({"config": None}, "config", "nothing", "a mapping"),
        ({"source": "app"}, "source", '"app"', "a mapping with the keys " + SOURCE_KEYS),
        ({"server_names": "api.example.org"}, "server_names", '"api.example.org"', "a list of host names"),
        # ranges
        ({"threads": 0}, "threads", "0", "a whole number from 1 to 64"),
        ({"workers": 65}, "workers", "65", '"auto" or a whole number from 1 to 64'),
        ({"workers": "4"}, "workers", '"4" (a string: leave the quotes out)', '"auto" or a whole number from 1 to 64'),
        ({"workers": "all"}, "workers", '"all" (a string)', '"auto" or a whole number from 1 to 64'),
        ({"workers": True}, "workers", f"true ({YES})", '"auto" or a whole number from 1 to 64'),
        ({"limits": {"request_s": 0}}, "limits.request_s", "0", "a whole number from 1 to 3600"),
        ({"limits": {"body_mb": 0}}, "limits.body_mb", "0", "a whole number from 1 to 10240"),
        ({"limits": {"memory_mb": 8}}, "limits.memory_mb", "8", "a whole number from 32 to 65536"),
        ({"egress": True}, "egress", f"true ({YES}: quote it)", "a list such as [{to: [192.0.2.0/24], ports: [443]}]"),
        ({"egress": [{"ports": [443]}]}, "egress[0].to", "nothing (app api)", "a list of addresses and networks"),
        ({"egress": [{"to": []}]}, "egress[0].to", "an empty list", "a list of addresses and networks"),
        (
            {"egress": [{"to": ["pay.example.org"]}]},
            "egress[0].to[0]",
            '"pay.example.org" (the addresses of a name change, and rules know none)',
            NETWORK,
        ),
        (
            {"egress": [{"to": ["192.0.2.7/24"]}]},
            "egress[0].to[0]",
            '"192.0.2.7/24" (the network that it is in is 192.0.2.0/24)',
            NETWORK,
        ),
        (
            {"egress": [{"to": ["10.0.0.0/255.0.0.0"]}]},
            "egress[0].to[0]",
            '"10.0.0.0/255.0.0.0" (the network that it is in is 10.0.0.0/8)',
            NETWORK,
        ),
        (
            {"egress": [{"to": ["::ffff:192.0.2.1"]}]},
            "egress[0].to[0]",
            '"::ffff:192.0.2.1" (connections to it are of IPv4: write it so)',
            NETWORK,
        ),
        ({"egress": [{"to": ["192.0.2.0/33"]}]}, "egress[0].to[0]", '"192.0.2.0/33"', NETWORK),
        ({"egress": [{"to": ["::/0"], "ports": [0]}]}, "egress[0].ports[0]", "0", "a whole number from 1 to 65535"),
        ({"egress": [{"to": ["::/0"], "protocol": "icmp"}]}, "egress[0].protocol", '"icmp"', '"tcp" or "udp"'),
        (
            {"egress": [{"to": ["::/0"], "port": 443}]},
            "egress[0].port",
            "an unknown key",
            "one of to, ports, protocol; did you mean ports?",
        ),
        ({"health": {"status": 600}}, "health.status", "600", "a whole number from 100 to 599"),
        ({"health": {"timeout_s": 601}}, "health.timeout_s", "601", "a whole number from 1 to 600"),
        ({"health": {"path": "ready"}}, "health.path", '"ready"', "a path that begins with /"),
        ({"release": {"keep": 0}}, "release.keep", "0", "a whole number from 1 to 50"),
        ({"release": {"bake_s": -1}}, "release.bake_s", "-1", "a whole number from 0 to 3600"),
        ({"release": {"max_5xx_ratio": 5}}, "release.max_5xx_ratio", "5", "a number from 0 to 1"),
        ({"release": {"max_5xx_ratio": float("nan")}}, "release.max_5xx_ratio", "nan", "a number from 0 to 1"),
        ({"release": {"max_p95_factor": 0.5}}, "release.max_p95_factor", "0.5", "a number from 1 to 1000"),
        ({"release": {"batches": []}}, "release.batches", "an empty list", 'a list such as ["1", "25%"]'),
        ({"release": {"batches": ["0%"]}}, "release.batches[0]", '"0%"', BATCH),
        ({"release": {"batches": [1, "101%"]}}, "release.batches[1]", '"101%"', BATCH),
        # places in the project, packages, what a package of an index has not
        ({"data": ["/var/x"]}, "data[0]", '"/var/x" (it leads out of the project)', DATA),
        ({"data": ["a/../../x"]}, "data[0]", '"a/../../x" (it leads out of the project)', DATA),
        ({"data": ["."]}, "data[0]", '"." (an app must not be able to write to its own code)', DATA),
        ({"data": ["venv/lib/x"]}, "data[0]", '"venv/lib/x" (an app must not be able to write to its own code)', DATA),
        ({"packages": ["Lib Magic"]}, "packages[0]", '"Lib Magic"', "the name of a Debian package"),
        (
            {"source": {"git": "https://example.org/a.git", "ref": "v1"}, "build": ["npm ci && npm x"]},
            "build[0]",
            '"npm ci && npm x" (no shell runs commands, so && has no meaning)',
            COMMAND,
        ),
        ({"env": {"A": "$APP_DATA_DIR/x"}}, "env.A", '"$APP_DATA_DIR/x"', DATA_DIR),
        ({"config": {"a": ["${APP_DATADIR}"]}}, "config.a[0]", '"${APP_DATADIR}"', DATA_DIR),
        ({"build": ["make"]}, "build", "commands with a package", "no build: a package of an index is built"),
        (
            {"source": {"package": "a==1", "include": ["x"]}},
            "source.include",
            "include with a package",
            "no such key: it is about a project's files",
        ),
        (
            {"source": {"package": "a==1", "extra_requirements": ["b =="]}},
            "source.extra_requirements[0]",
            '"b =="',
            "a requirement, such as psycopg2-binary>=2.9",
        ),
        (
            {"source": {"package": "a==1", "subdir": "x"}},
            "source.subdir",
            "a subdir next to package",
            "no subdir: it belongs to git",
        ),
        # processes and jobs
        (
            {"processes": [{"name": "w", "command": "a | b"}]},
            "processes[0].command",
            '"a | b" (no shell runs commands, so | has no meaning)',
            COMMAND,
        ),
        (
            {"processes": [{"name": "w", "command": "a", "one": True, "count": 2}]},
            "processes[0]",
            "count and one",
            "at most one of count, per_host and one",
        ),
        (
            {"processes": [{"name": "w", "command": "a"}, {"name": "w", "command": "b"}]},
            "processes[1].name",
            '"w", which is taken',
            "another name",
        ),
        (
            {"processes": [{"name": "w", "command": "a"}], "jobs": [{"name": "w", "command": "b", "at": "daily"}]},
            "processes[0].name",
            '"w", which is taken',
            "another name",
        ),
        (
            {"processes": [{"name": "w", "command": "a", "one": True, "drain_s": 900}]},
            "processes[0].drain_s",
            "900",
            "at most 600 with one: a release waits until the one before has ended",
        ),
        (
            {"processes": [{"name": "w", "command": "a ${APP_RELEASE}"}]},
            "processes[0].command",
            '"a ${APP_RELEASE}"',
            "${APP_DATA_DIR} or ${APP_PROCESS}, which are replaced here",
        ),
        (
            {"jobs": [{"name": "j", "command": "a", "at": "0 3 * * *"}]},
            "jobs[0].at",
            '"0 3 * * *"',
            'when, in the words of systemd.time(7), such as "*-*-* 03:10" or hourly',
        ),
        (
            {"jobs": [{"name": "j", "command": "a", "at": 790}]},
            "jobs[0].at",
            "790 (YAML reads this as a number or a date: quote it)",
            'when, in the words of systemd.time(7), such as "*-*-* 03:10" or hourly',
        ),
        (
            {"jobs": [{"name": "command", "command": "a", "at": "daily"}]},
            "jobs[0].name",
            '"command", which is taken',
            "another name",
        ),
        # where the app comes from
        ({"source": {}}, "source", "none of them", "exactly one of path, git (with ref) or package"),
        (
            {"source": {"git": "https://example.org/a.git", "ref": "v1", "package": "a==1"}},
            "source",
            "git and package together",
            "exactly one of path, git (with ref) or package",
        ),
        (
            {"source": {"git": "https://example.org/a.git"}},
            "source.ref",
            "nothing",
            "the tag, branch or commit of git to release",
        ),
        (
            {"source": {"package": "a==1", "ref": "v1"}},
            "source.ref",
            "a ref next to package",
            "no ref: it belongs to git",
        ),
        (
            {"source": {"git": "https://example.org/a.git", "ref": "--upload-pack=x"}},
            "source.ref",
            '"--upload-pack=x"',
            "a tag, branch or commit",
        ),
        ({"source": {"git": "http://example.org/a.git", "ref": "v1"}}, "source.git", '"http://example.org/a.git"', GIT),
        (
            {"source": {"git": "https://me:hunter2@example.org/a.git", "ref": "v1"}},
            "source.git",
            (
                '"https://***@example.org/a.git" '
                "(credentials in a URL end up in logs and manifests; use ssh or a git credential helper)"
            ),
            GIT,
        ),
        ({"source": {"package": "flask"}}, "source.package", '"flask" (not pinned to one version)', "NAME==VERSION"),
        (
            {"source": {"package": "flask>=3"}},
            "source.package",
            '"flask>=3" (not pinned to one version)',
            "NAME==VERSION",
        ),
        (
            {"source": {"package": "flask==3.*"}},
            "source.package",
            '"flask==3.*" (not pinned to one version)',
            "NAME==VERSION",
        ),
        ({"source": {"package": "not a name"}}, "source.package", '"not a name"', "NAME==VERSION"),
        ({"wsgi": "api.wsgi"}, "wsgi", '"api.wsgi"', CALLABLE),
        ({"wsgi": "api/wsgi.py:app"}, "wsgi", '"api/wsgi.py:app"', CALLABLE),
        ({"wsgi": "api:create(SETTINGS)"}, "wsgi", '"api:create(SETTINGS)"', CALLABLE),
        ({"wsgi": "api:create('%(x)')"}, "wsgi", "\"api:create('%(x)')\"", CALLABLE),
        # host names
        ({"server_names": []}, "server_names", "an empty list", "a list of host names"),
        (
            {"server_names": ["https://api.example.org"]},
            "server_names[0]",
            '"https://api.example.org" (a host name has no scheme, port or path)',
            HOST,
        ),
        ({"server_names": ["API.example.org"]}, "server_names[0]", '"API.example.org" (not in lower case)', HOST),
        ({"server_names": ["api_1.example.org"]}, "server_names[0]", '"api_1.example.org"', HOST),
        ({"server_names": ["a.*.example.org"]}, "server_names[0]", '"a.*.example.org"', HOST),
        (
            {"server_names": ["bücher.example"]},
            "server_names[0]",
            '"bücher.example" (browsers ask for it as xn--bcher-kva.example: write that)',
            HOST,
        ),
        (
            {"server_names": ["*.example.org"]},
            "server_names[0]",
            '"*.example.org"',
            "a plain name first: it is what the gate asks under, and where redirect_names lead",
        ),
        (
            {"redirect_names": ["api.example.org"]},
            "redirect_names[0]",
            '"api.example.org", which is apps[0].server_names[0] too',
            "each server name once: NGINX picks the app by it",
        ),
        (
            {"http": {"paths": [{"path": "/a"}]}},
            "http.paths[0]",
            "a path without limits",
            "at least one of request_s, body_mb, stream, or app",
        ),
        (
            {"http": {"paths": [{"path": "/", "body_mb": 5}]}},
            "http.paths[0].path",
            '"/"',
            "a path below it: what holds for all of them is in limits",
        ),
        (
            {"http": {"paths": [{"path": "/a;b", "body_mb": 5}]}},
            "http.paths[0].path",
            '"/a;b"',
            "a path that begins with /, of letters, digits and . _ ~ / -",
        ),
        (
            {"http": {"paths": [{"path": "/a", "body_mb": 5}, {"path": "/a", "stream": True}]}},
            "http.paths[1].path",
            '"/a" again',
            "each path once",
        ),
        (
            {"http": {"paths": [{"path": "/a", "request_s": 90}]}},
            "http.paths[0].request_s",
            "90",
            "at most release.drain_s (60), or a release would end running requests",
        ),
        (
            {"http": {"headers": {"Content-Length": "5"}}},
            "http.headers.Content-Length",
            "the header Content-Length",
            "another: NGINX sets this one itself",
        ),
        (
            {"http": {"headers": {"X-A": "a$b"}}},
            "http.headers",
            "a mapping (NGINX would take $ in X-A for a variable)",
            "a mapping of header names to strings",
        ),
        (
            {"http": {"headers": {"X A": "b"}}},
            "http.headers",
            "a mapping (X A is no name of a header)",
            "a mapping of header names to strings",
        ),
        ({"preload": "yes"}, "preload", '"yes"', "true or false"),
        (
            {"static": {"/": "static"}},
            "static",
            "a mapping (/ is no path such as /static)",
            "a mapping of URL paths to directories or files of the project, such as {/static: static}",
        ),
        (
            {"static": {"/static": "../static"}},
            "static",
            "a mapping (../static is no place in the project: it leads out of the project)",
            "a mapping of URL paths to directories or files of the project, such as {/static: static}",
        ),
        (
            {"static": {"/media": "media/pictures"}, "data": ["media"]},
            "static./media",
            '"media/pictures", which lies in the app\'s data',
            "files of the release: what an app has written is served by the app, because nobody else may read it",
        ),
        (
            {"static": {"/up": "static"}, "http": {"paths": [{"path": "/up", "body_mb": 3}]}},
            "static./up",
            "/up, which is in http.paths too",
            "another path in one of them",
        ),
        (
            {"server_names": ["a.example.org", "a.example.org"]},
            "server_names[1]",
            '"a.example.org", which is apps[0].server_names[0] too',
            "each server name once: NGINX picks the app by it",
        ),
        # variables
        (
            {"env": {"APP_NAME": "x"}},
            "env.APP_NAME",
            "the name APP_NAME (every release sets this variable itself)",
            "another name",
        ),
        (
            {"secrets": {"PROMETHEUS_MULTIPROC_DIR": "x"}},
            "secrets.PROMETHEUS_MULTIPROC_DIR",
            "the name PROMETHEUS_MULTIPROC_DIR (every release sets this variable itself)",
            "another name",
        ),
        (
            {"env": {"UWSGI_FILE": "x"}},
            "env.UWSGI_FILE",
            "the name UWSGI_FILE (uWSGI takes variables of this prefix for its own options)",
            "another name",
        ),
        ({"env": {"slot": "x"}}, "env.slot", "the name slot (the start of a slot uses this name)", "another name"),
        ({"env": {"A-B": "x"}}, "env.A-B", "the name A-B", VARIABLE),
        ({"secrets": {"../x": "x"}}, "secrets.../x", "the name ../x", VARIABLE),
        ({"env": {7: "x"}}, "env[7]", "the name 7", VARIABLE),
        (
            {"env": {"A": "x"}, "secrets": {"A": "y"}},
            "env.A",
            "A in secrets too",
            "each variable in one of secrets and env",
        ),
        ({"env": {"A": 5}}, "env.A", "a number that is not shown", "a string"),
        # commands
        ({"commands": {"check": "python -m x"}}, "commands.check", '"python -m x"', f"a list, each item {COMMAND}"),
        (
            {"commands": {"check": ["python", "-m", "x"]}},
            "commands.check[1]",
            '"-m" (this is an argument, not a command: write a command as one string, or as a list inside the list)',
            COMMAND,
        ),
        (
            {"commands": {"migrate": ["a && b"]}},
            "commands.migrate[0]",
            '"a && b" (no shell runs commands, so && has no meaning)',
            COMMAND,
        ),
        ({"commands": {"migrate": ["a 'b"]}}, "commands.migrate[0]", '"a \'b" (no closing quotation)', COMMAND),
        ({"commands": {"check": [[]]}}, "commands.check[0]", "an empty list (no program is named)", COMMAND),
        (
            {"commands": {"check": [5]}},
            "commands.check[0]",
            "5 (YAML reads this as a number or a date: quote it)",
            COMMAND,
        ),
        ({"commands": {"migrate_on": "all"}}, "commands.migrate_on", '"all"', '"once" or "each"'),
        # across fields
        (
            {"limits": {"request_s": 90}},
            "limits.request_s",
            "90 with release.drain_s 60 (the default)",
            "release.drain_s of at least limits.request_s (90), or a release would end running requests",
        ),
        (
            {"limits": {"request_s": 90}, "release": {"drain_s": 80}},
            "release.drain_s",
            "80",
            "release.drain_s of at least limits.request_s (90), or a release would end running requests",
        ),
        # what a YAML file cannot carry
        (
            {"config": {"since": dt.date(2026, 1, 2)}},
            "config.since",
            "2026-01-02 (YAML reads this as a date)",
            "a string, number, true or false: quote it",
        ),
        (
            {"config": {"ports": {80: "http"}}},
            "config.ports",
            "the key 80 (not a string)",
            "keys that are strings: quote it",
        ),
    ],
)
def test_a_mistake_is_named_with_place_finding_and_expectation(
    changes: dict[str, Any], place: str, found: str, expected: str
) -> None:
    assert said(app(**changes)) == [f"apps[0].{place}: found {found}, expected {expected}"]


def test_all_mistakes_of_all_apps_are_listed_at_once() -> None:
    assert said(app(threads=0, profil="x"), app(name="second", server_names=["b.example.org"], wsgi=1)) == [
        "apps[0].threads: found 0, expected a whole number from 1 to 64",
        f"apps[0].profil: found an unknown key, expected one of {KEYS}; did you mean profile?",
        f"apps[1].wsgi: found 1 (YAML reads this as a number or a date: quote it), expected {CALLABLE}",
    ]


HASH = "$6$salt$" + "x" * 86


@pytest.mark.parametrize(
    ("secrets", "access", "expected"),
    [
        ({}, {}, "http.access: found neither users nor authority, expected at least one of them"),
        (
            {"SITE_USERS": f"a:{HASH}"},
            {"users": "SITE_USER"},
            "expected the name of one of secrets, which holds a line NAME:HASH",
        ),
        ({"USERS": "# nobody\n"}, {"users": "USERS"}, "secrets.USERS: found no user, expected a line NAME:HASH"),
        (
            {"USERS": f"a:{HASH}\nb:plain"},
            {"users": "USERS"},
            "secrets.USERS: found user 2 of it, who is not NAME:HASH",
        ),
        ({"USERS": "a:$2y$14$" + "x" * 53}, {"users": "USERS"}, "bcrypt of cost 10 at most"),
        ({}, {"authority": "no.pem"}, 'http.access.authority: found "no.pem", which is no file with certificates'),
        ({}, {"authority": "server.pem"}, "which holds a certificate of no authority"),
        ({}, {"authority": "both.pem"}, "which holds a private key"),
    ],
)
def test_who_may_reach_an_app_is_checked_and_no_hash_is_shown(
    secrets: dict[str, str], access: dict[str, str], expected: str, tmp_path: Path
) -> None:
    authority = make(tmp_path / "authority", "clients", dt.datetime.now(dt.UTC))
    key = public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    issued = authority.issue(key, Wanted(("a.example",), client=True), 1, dt.datetime.now(dt.UTC))
    (tmp_path / "server.pem").write_text(issued, encoding="ascii")
    (tmp_path / "both.pem").write_text("-----BEGIN PRIVATE KEY-----", encoding="ascii")
    [line] = said(app(secrets=secrets, http={"access": access}), root=tmp_path)
    assert expected in line
    assert "xxx" not in line
    assert "plain" not in line


def test_the_certificates_of_an_authority_are_part_of_the_release_and_hashes_are_not(tmp_path: Path) -> None:
    make(tmp_path / "authority", "clients", dt.datetime.now(dt.UTC))
    text = (tmp_path / "authority/authority.pem").read_text(encoding="ascii")
    access = {"authority": "authority/authority.pem", "users": "USERS"}
    hashes = ["$apr1$salt$" + "x" * 22, "$5$salt$" + "x" * 43, HASH, "$2y$10$" + "x" * 53]
    users = "".join(f"user{number}:{each}\n" for number, each in enumerate(hashes))
    checked = check_apps([app(secrets={"USERS": users}, http={"access": access})], tmp_path)
    assert checked.problems == []
    assert checked.apps[0]["http"]["access"] == {"users": "USERS", "authority": text}
    assert "xxx" not in json.dumps(checked.apps)


def joined(**changes: Any) -> list[dict[str, Any]]:
    """An app that leads to another one at /shop."""
    main = app(name="main", server_names=["example.org"], http={"paths": [{"path": "/shop/", "app": "shop"}]})
    return [main | changes, app(name="shop", mount="/shop", static={"/static": "static"}, health={"path": "/up"})]


def test_what_an_entry_says_of_paths_is_below_its_mount_and_the_site_that_leads_there_knows_it() -> None:
    checked = check_apps(joined(), Path())
    assert checked.problems == []
    main, shop = checked.apps
    assert (shop["static"], shop["health"]["path"], shop["joined"]) == ({"/shop/static": "static"}, "/shop/up", [])
    [there] = main["joined"]
    assert (there["name"], there["mount"], there["static"]) == ("shop", "/shop", {"/shop/static": "static"})
    assert main["http"]["paths"] == []


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (joined(http={"paths": [{"path": "/shop", "app": "shp"}]}), "expected another app with a site: shop"),
        (joined(http={"paths": [{"path": "/shop", "app": "main"}]}), "expected another app with a site: shop"),
        (
            joined(http={"paths": [{"path": "/sale", "app": "shop"}]}),
            'whose mount is "/shop", expected an app whose mount is /sale',
        ),
        (
            joined(http={"paths": [{"path": "/shop", "app": "shop", "body_mb": 9}]}),
            "found app and body_mb, expected one of them",
        ),
        ([app(mount="shop")], 'apps[0].mount: found "shop", expected a path such as /shop'),
        ([app(mount="/shop/")], 'apps[0].mount: found "/shop/"'),
        ([app(mount="/../x")], 'apps[0].mount: found "/../x"'),
    ],
)
def test_a_path_of_another_app_is_its_mount(entries: list[dict[str, Any]], expected: str) -> None:
    [line] = said(*entries)
    assert expected in line


def test_nobody_gets_around_who_may_reach_an_app_by_a_path_of_another() -> None:
    main, shop = joined()
    shop |= {"secrets": {"USERS": f"a:{HASH}"}, "http": {"access": {"users": "USERS"}}}
    assert ["shop" in line and "everybody could reach it here" in line for line in said(main, shop)] == [True]
    main |= {"secrets": {"USERS": f"a:{HASH}"}}
    main["http"]["access"] = {"users": "USERS"}
    assert said(main, shop) == []


PROCESSES = [{"name": "worker", "command": "python -m mailer"}]
NO_REQUESTS = "no such key: it is about requests, and an app without wsgi gets none"


@pytest.mark.parametrize(
    "more", [{"processes": PROCESSES}, {"jobs": [{"name": "nightly", "command": "python -m mailer", "at": "daily"}]}]
)
def test_an_app_may_have_no_site(more: dict[str, Any]) -> None:
    checked = check_apps([app(wsgi=..., server_names=..., **more)], Path())
    assert checked.problems == []
    assert (checked.apps[0]["wsgi"], checked.apps[0]["server_names"]) == (None, [])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"static": {"/static": "static"}}, "static"),
        ({"health": {"path": "/"}}, "health"),
        ({"http": {"compress": False}}, "http"),
        ({"workers": 2}, "workers"),
        ({"limits": {"request_s": 5}}, "limits.request_s"),
        ({"release": {"max_5xx_ratio": 0.5}}, "release.max_5xx_ratio"),
        ({"redirect_names": ["www.example.org"]}, "redirect_names"),
    ],
)
def test_an_app_without_a_site_says_nothing_about_requests(changes: dict[str, Any], where: str) -> None:
    entry = app(wsgi=..., server_names=..., processes=PROCESSES, **changes)
    key = where.rpartition(".")[2]
    assert said(entry) == [f"apps[0].{where}: found {key} without wsgi, expected {NO_REQUESTS}"]


def test_an_app_has_wsgi_and_names_or_neither() -> None:
    assert said(app(wsgi=..., processes=PROCESSES)) == [f"apps[0].wsgi: found nothing (app api), expected {MODULE}"]
    assert said(app(wsgi=..., server_names=...)) == [f"apps[0].wsgi: found nothing (app api), expected {MODULE}"]
    expected = "apps[0].server_names: found nothing (app api), expected a list of host names"
    assert said(app(server_names=..., processes=PROCESSES)) == [expected]


def test_two_apps_share_neither_name_nor_server_name() -> None:
    assert said(app(), app(server_names=["b.example.org", "API.example.org"])) == [
        f'apps[1].server_names[1]: found "API.example.org" (not in lower case), expected {HOST}',
        'apps[1].name: found "api", the name of apps[0] too, expected another name for each app',
        (
            'apps[1].server_names[1]: found "API.example.org", which is apps[0].server_names[0] too, '
            "expected each server name once: NGINX picks the app by it"
        ),
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, 'apps: found nothing, expected a list of apps, each beginning with "- name:"'),
        ({"name": "api"}, 'apps: found a mapping, expected a list of apps, each beginning with "- name:"'),
        ("api", 'apps: found "api", expected a list of apps, each beginning with "- name:"'),
        ([], "apps: found an empty list, expected at least one app"),
        (["api"], f'apps[0]: found "api", expected a mapping with the keys {KEYS}'),
    ],
)
def test_apps_must_be_a_list_of_mappings(value: object, message: str) -> None:
    assert [str(problem) for problem in check_apps(value, Path()).problems] == [message]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (12345, f"apps[0].secrets.S: found a number that is not shown, expected {VAULTED}"),
        ("", f"apps[0].secrets.S: found a string that is not shown (it is empty), expected {VAULTED}"),
        (
            "hunter2\0",
            f"apps[0].secrets.S: found a string that is not shown (it holds a NUL character), expected {VAULTED}",
        ),
        (
            "x" * 131_000,
            f"apps[0].secrets.S: found a string that is not shown (it is longer than a variable can be), expected {VAULTED}",
        ),
        (["hunter2"], f"apps[0].secrets.S: found a list, expected {VAULTED}"),
    ],
)
def test_the_value_of_a_secret_is_never_shown(value: object, message: str) -> None:
    assert said(app(secrets={"S": value})) == [message]


def test_a_vaulted_value_outside_of_secrets_is_refused_and_not_shown() -> None:
    vaulted = frozenset({(0, "config", "token"), (0, "threads"), (0, "secrets", "S")})
    messages = said(app(config={"token": "hunter2"}, threads="hunter2", secrets={"S": "ok"}), vaulted=vaulted)
    elsewhere = (
        "found a vaulted value, expected vaulted values under secrets only: this place is shown in plans and logs"
    )
    assert messages == [
        "apps[0].threads: found a string that is not shown, expected a whole number from 1 to 64",
        f"apps[0].config.token: {elsewhere}",
        f"apps[0].threads: {elsewhere}",
    ]


def test_a_path_source_must_be_a_python_project(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert said(app(source={"path": "nope"}), root=tmp_path) == [
        f'apps[0].source.path: found "nope", which is no directory in {tmp_path}, expected {PROJECT}'
    ]
    [message] = said(app(source={"path": "empty"}), root=tmp_path)
    assert message == (
        'apps[0].source.path: found "empty" without pyproject.toml or requirements.txt, expected '
        f"{PROJECT} (a file of another name: source.requirements)"
    )
    (tmp_path / "empty" / "requirements.txt").write_text("flask\n")
    assert said(app(source={"path": "empty"}), root=tmp_path) == []


def test_the_profile_must_be_one_that_the_app_ships(project: Path) -> None:
    source = {"path": "app"}
    assert said(app(source=source, profile="dev"), root=project) == []
    assert said(app(source=source, profile="prd"), root=project) == [
        (
            'apps[0].profile: found "prd", which is no file in src/api/profiles, '
            "expected one of dev, prod; did you mean prod?"
        )
    ]
    (project / "app" / "src" / "api" / "profiles" / "prod.yml").unlink()
    assert said(app(source=source), root=project) == [
        'apps[0].profile: found "prod" (the default), which is no file in src/api/profiles, expected one of dev'
    ]


def test_base_is_no_profile_of_its_own(project: Path) -> None:
    assert said(app(source={"path": "app"}, profile="base"), root=project) == [
        'apps[0].profile: found "base", which is no file in src/api/profiles, expected one of dev, prod'
    ]


def test_config_may_name_single_settings_of_the_schema(project: Path) -> None:
    config: dict[str, Any] = {"page_size": 50, "title": None, "log": {}, "origins": ["a"], "either": True}
    assert said(app(source={"path": "app"}, config=config), root=project) == []


@pytest.mark.parametrize(
    ("config", "place", "found", "expected"),
    [
        (
            {"pagesize": 5},
            "pagesize",
            "an unknown key",
            "one of token, page_size, title, ratio, origins, log, either; did you mean page_size?",
        ),
        ({"log": {"levle": "info"}}, "log.levle", "an unknown key", "one of level; did you mean level?"),
        ({"log": {"level": "loud"}}, "log.level", '"loud"', "one of debug, info"),
        (
            {"page_size": "50"},
            "page_size",
            '"50" (a string: leave the quotes out)',
            "a whole number at least 1 and at most 100",
        ),
        ({"page_size": 500}, "page_size", "500", "a whole number at least 1 and at most 100"),
        ({"title": "too long"}, "title", '"too long"', "a string at most 5 long"),
        ({"title": 5}, "title", "5", "a string at most 5 long or nothing"),
        ({"ratio": 0}, "ratio", "0", "a number more than 0"),
        ({"origins": ["a", 1]}, "origins[1]", "1 (YAML reads this as a number or a date: quote it)", "a string"),
        ({"either": "x"}, "either", '"x"', "a whole number or true or false"),
    ],
)
def test_config_must_fit_the_schema_that_the_app_ships(
    project: Path, config: dict[str, Any], place: str, found: str, expected: str
) -> None:
    messages = said(app(source={"path": "app"}, config=config), root=project)
    assert messages == [f"apps[0].config.{place}: found {found}, expected {expected}"]


@pytest.mark.parametrize("text", ["{", '{"type": 5}', '{"$ref": "https://example.org/other.json"}'])
def test_a_schema_that_cannot_be_used_is_named(project: Path, text: str) -> None:
    (project / "app" / "src" / "api" / "config.schema.json").write_text(text)
    (message,) = said(app(source={"path": "app"}, config={"page_size": 5}), root=project)
    assert message.startswith("apps[0].source.path: found config.schema.json that cannot be used (")
    assert message.endswith("), expected a JSON schema")


def test_an_entry_that_sets_nothing_is_not_held_against_a_schema(project: Path) -> None:
    (project / "app" / "src" / "api" / "config.schema.json").write_text('{"minProperties": 1, "required": ["a"]}')
    assert said(app(source={"path": "app"}), root=project) == []


def test_the_schema_of_the_apps_own_package_counts(project: Path) -> None:
    other = project / "app" / "src" / "other"
    other.mkdir()
    (other / "config.schema.json").write_text('{"additionalProperties": false}')
    assert said(app(source={"path": "app"}, config={"page_size": 5}), root=project) == []


def test_a_vaulted_value_that_does_not_fit_the_schema_is_not_shown(project: Path) -> None:
    messages = said(
        app(source={"path": "app"}, config={"page_size": "hunter2"}),
        root=project,
        vaulted=frozenset({(0, "config", "page_size")}),
    )
    assert messages[-1] == (
        "apps[0].config.page_size: found a string that is not shown, expected a whole number at least 1 and at most 100"
    )
    assert "hunter2" not in "".join(messages)


def test_hosts_of_one_play_must_agree_on_an_app() -> None:
    assert differences({}) == []
    assert differences({"a": [app()], "b": [app()]}) == []
    assert differences({"a": [app()], "b": [app(threads=4, profile="dev")], "c": [app(threads=8)]}) == [
        (
            "app api: found different definitions on a and b (profile, threads), "
            "expected the same on all hosts of the play: a release is one for all of them"
        )
    ]


@pytest.mark.parametrize(
    ("other", "found"), [([app(name="shop")], "shop"), ([app(), app(name="shop")], "api, shop"), (None, "none")]
)
def test_hosts_of_one_play_must_have_the_same_apps(other: object, found: str) -> None:
    assert differences({"a": [app()], "b": other, "c": other}) == [
        (
            f"apps: found api on a and {found} on b, expected the same apps on all hosts of the play: "
            "give each group of hosts that has different apps a run with --limit"
        )
    ]


@pytest.mark.parametrize("near", ["app", "aps", "Apps", "applications"])
def test_a_misspelled_apps_is_recognized(near: str) -> None:
    message, name = missing(["groups", "ansible_app", "inventory_dir", near])
    assert message == f"{near}: found an unknown variable, expected the list of apps under the name apps; rename it"
    assert name == near


def test_missing_apps_are_said_to_be_missing() -> None:
    message, name = missing(["groups", "ansible_apps", "inventory_dir"])
    assert message == "apps: found nothing, expected a list of apps in group_vars/all/apps.yml of the inventory"
    assert name is None


def test_the_type_of_a_checked_entry_has_the_keys_of_the_model_at_every_depth() -> None:
    assert keys_of_type(documents.Entry) - {"joined", "config_secrets"} == keys_of_model(App) - {"secrets"}


def keys_of_model(model: type[BaseModel], below: str = "") -> set[str]:
    """Return the keys of a part of an entry, those of its parts with theirs in front."""
    found = set()
    for name, field in model.model_fields.items():
        inner = [part for part in parts_of(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        found |= {f"{below}{name}"}.union(*(keys_of_model(part, f"{below}{name}.") for part in inner))
    return found


def keys_of_type(kind: Any, below: str = "") -> set[str]:
    """Return the same of a TypedDict."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        inner = [part for part in parts_of(hint) if typing.is_typeddict(part) and part is not documents.Joined]
        found |= {f"{below}{name}"}.union(*(keys_of_type(part, f"{below}{name}.") for part in inner))
    return found


def parts_of(hint: Any) -> list[Any]:
    """Return what a type is made of, whatever holds it."""
    return [hint, *(part for each in typing.get_args(hint) for part in parts_of(each))]
