"""What a release is rendered from on the controller: its vassal file, its unit files, the programs of its slots and the configuration of its site."""

from __future__ import annotations

import functools
import importlib.resources
import pathlib
from typing import Any

import jinja2

from praetor.documents import Entry
from praetor.host.layout import ReleaseError
from praetor.host.sandbox import directives

ROLES = pathlib.Path(__file__).parents[3] / "roles"
UNITS = ROLES / "flask_app/templates"
SANDBOX = ROLES / "uwsgi_emperor/templates/app_sandbox.conf"  # of everything that an app is


def vassal(app: Entry) -> str:
    """The vassal file of an app's release, the same on all hosts; empty for an app without slots."""
    return "" if app["wsgi"] is None else _render(UNITS / "vassal.ini.j2", app=app)


def site(app: Entry, *, tls: bool, release: str = "") -> str:
    """NGINX's configuration of an app's site, the same on all hosts; empty for an app without one.

    Args:
        app: a checked entry of the inventory.
        tls: whether it speaks TLS; its certificate lies where role certificates puts it.
        release: its id, where who may reach the app lies; what the id is made of is rendered without.

    Raises:
        ReleaseError: clients are to show certificates, and there is no TLS.
    """
    if app["wsgi"] is None:
        return ""
    access = app["http"]["access"]
    if not tls and access and access["authority"]:
        raise ReleaseError(
            "http.access.authority: clients show certificates over TLS only, and certificates_mode is none"
        )
    return _render(ROLES / "nginx/templates/site.conf.j2", app=app, tls=tls, release=release)


def units(app: Entry, release: str) -> dict[str, str]:
    """The unit files of a release, by name.

    Args:
        app: a checked entry of the inventory.
        release: its id; what the id is made of is rendered without.
    """
    shared = {
        "app": app,
        "release": release,
        "place": f"/srv/apps/{app['name']}/releases/{release}",
        "sandbox": SANDBOX.read_text(encoding="utf-8"),
        "loosened": directives(app["sandbox"]),
        "quoted": quoted,
    }
    found = {"command.service": _render(UNITS / "command.service.j2", **shared)}
    for each in app["processes"]:
        found[f"{each['name']}@.service"] = _render(UNITS / "process.service.j2", process=each, **shared)
    for job in app["jobs"]:
        for kind in ("service", "timer"):
            found[f"{job['name']}.{kind}"] = _render(UNITS / f"job.{kind}.j2", job=job, **shared)
    return found


def quoted(command: list[str]) -> str:
    """A command as systemd reads it in a unit file, where nothing in it has a meaning, systemd.service(5)."""
    for argument in command:
        if "\n" in argument:
            raise ReleaseError(f"'{argument}': an argument cannot hold a line end")
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") for word in command)
    return " ".join(f'"{word}"' for word in escaped)


def slot() -> dict[str, str]:
    """The files of package praetor_slot, by name."""
    place = importlib.resources.files("praetor_slot")
    return {each.name: each.read_text(encoding="utf-8") for each in place.iterdir() if each.name.endswith(".py")}


def _render(template: pathlib.Path, **values: Any) -> str:
    return _compiled(template).render(**values)


@functools.cache
def _compiled(template: pathlib.Path) -> jinja2.Template:
    """Once for all apps, and for a site with its release's id and without: it takes ten times as long as to render."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701  configuration, no HTML
        optimized=False,  # each is rendered a few times: to look for constants takes longer than it saves
    )
    return environment.from_string(template.read_text(encoding="utf-8"))
