"""What a release is rendered from on the controller: its vassal file, the programs of its slots and the configuration of its site."""

from __future__ import annotations

import importlib.resources
import pathlib
from typing import Any

import jinja2


def vassal(app: dict[str, Any], template: pathlib.Path) -> str:
    """The vassal file of an app's release; the same on all hosts."""
    return _render(template, app=app)


def site(app: dict[str, Any], template: pathlib.Path, *, tls: bool, journal: bool) -> str:
    """NGINX's configuration of an app's site; the same on all hosts.

    Args:
        app: a checked entry of the inventory.
        template: of a site, in role nginx.
        tls: whether it speaks TLS; its certificate lies where role certificates puts it.
        journal: whether the journal gets the access log too, from where it is shipped.
    """
    return _render(template, app=app, tls=tls, journal=journal)


def slot() -> dict[str, str]:
    """The files of package praetor_slot, by name."""
    place = importlib.resources.files("praetor_slot")
    return {each.name: each.read_text(encoding="utf-8") for each in place.iterdir() if each.name.endswith(".py")}


def _render(template: pathlib.Path, **values: Any) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701  configuration, no HTML
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
