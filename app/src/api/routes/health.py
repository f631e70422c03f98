"""Is it alive, is it ready, and what is it."""

import platform
from importlib.metadata import version

from api.metrics import in_uwsgi
from api.model import Model
from api.problems import ApiError
from api.services import services
from api.typed import Routes

routes = Routes("service")


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
    """Say that the process answers. Looks at nothing else: a restart would mend nothing else."""
    return Health()


@routes.get("/health/ready", errors=[503])
def ready() -> Health:
    """Say whether requests can be served: 503 as long as the database cannot."""
    if reason := services().database.unready():
        raise ApiError(503, f"database: {reason}", headers={"Retry-After": "5"})
    return Health()


@routes.get("/version")
def show_version() -> Version:
    """Say which release of the service answers, and on what."""
    found = services()
    uwsgi = in_uwsgi()
    return Version(
        app=found.identity.name,
        version=version("api"),
        release=found.identity.release,
        commit=found.identity.commit,
        profile=found.settings.profile,
        python=platform.python_version(),
        uwsgi=uwsgi.version.decode() if uwsgi else None,
    )
