"""Is it alive, is it ready, and what is it."""

import platform
from importlib.metadata import version

from api.metrics import in_uwsgi
from api.model import Model
from api.services import services
from api.typed import Failure, Routes


class NotReadyError(Exception):
    """Requests cannot be served."""


# Read once: to find the version, importlib reads and parses the whole description of the package.
_VERSION = version("api")
_PYTHON = platform.python_version()

routes = Routes("service", failures={NotReadyError: Failure(503, headers={"Retry-After": "5"})})


class Health(Model):
    """All is well."""

    status: str = "ok"


class Version(Model):
    """What runs."""

    app: str
    version: str
    release: str
    commit: str
    profile: str
    python: str
    uwsgi: str | None


@routes.get("/health/live")
def live() -> Health:
    """Say that the process answers.

    Looks at nothing else: a restart, which is what follows a failure here, would fix nothing else.
    """
    return Health()


@routes.get("/health/ready", NotReadyError)
def ready() -> Health:
    """Say whether requests can be served.

    503 as long as the database does not answer in time or lacks a migration.
    """
    if reason := services().database.unready():
        raise NotReadyError(f"database: {reason}")
    return Health()


@routes.get("/version")
def show_version() -> Version:
    """Say which release of the service answers, and on what."""
    found = services()
    uwsgi = in_uwsgi()
    return Version(
        app=found.identity.name,
        version=_VERSION,
        release=found.identity.release,
        commit=found.identity.commit,
        profile=found.settings.profile,
        python=_PYTHON,
        uwsgi=uwsgi.version.decode() if uwsgi else None,
    )
