"""Every setting of the service, with its type, its limits and its default."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

DEVELOPMENT = "dev"

ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """What all parts of the configuration have in common: no unknown key, no guessed type, no change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Log(Section):
    """Logging to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""


class Http(Section):
    """Limits of a request, and what is served besides the API."""

    max_body_bytes: int = Field(default=65_536, ge=1, le=16_777_216)
    """A longer request body is answered with 413. Keep it at or below the app's `limits.body_mb`."""

    deadline_s: float = Field(default=10.0, gt=0, le=300)
    """A request that needs longer is answered with 503. Keep it below the app's `limits.request_s`."""

    docs: bool = True
    """Serve `/openapi.json` and the page that shows it, `/docs`."""

    metrics: bool = False
    """Serve `/metrics`. Only for development: in production a separate exporter reads the metric files."""


class Database(Section):
    """Where items are kept."""

    url: str = "sqlite:///items.db"
    """`sqlite:///FILE`, below the data directory, or `postgresql+psycopg://USER@HOST/NAME`; without a password."""

    password: SecretStr | None = None
    """Password for `url`. A secret: it comes from the secrets or the environment, never from a file of settings."""

    pool_size: int = Field(default=5, ge=1, le=50)
    """Connections that one worker keeps open to PostgreSQL. At least the threads of a worker."""

    connect_timeout_s: int = Field(default=3, ge=2, le=30)
    """How long to wait for a connection, or a sign of life on one. PostgreSQL's client library takes no less than 2."""

    ready_timeout_s: float = Field(default=2.0, gt=0, le=30)
    """How long `/health/ready` waits for the database before it answers 503."""

    migration_s: float = Field(default=480.0, gt=0, le=86_400)
    """How long `python -m api.migrate` may take. Keep it below the limit of whoever runs it, so that it says why."""

    migration_lock_s: float = Field(default=0.5, ge=0.01, le=10)
    """How long a migration waits for a lock at a time. On PostgreSQL the app's requests wait behind it for as long."""

    @model_validator(mode="after")
    def _url_is_usable(self) -> Self:
        try:
            url = make_url(self.url)
        except ArgumentError:
            raise _broken_rule("url", "expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME") from None
        if url.drivername not in {"sqlite", "postgresql+psycopg"}:
            raise _broken_rule("url", f"found {url.drivername!r}, expected sqlite or postgresql+psycopg")
        if url.password is not None:
            raise _broken_rule("url", "a password does not belong into the URL: set it as database.password")
        return self


class Items(Section):
    """The items resource."""

    page_size: int = Field(default=50, ge=1, le=1000)
    """Items on a page unless the caller asks for another number."""

    idempotency_hours: int = Field(default=24, ge=1, le=720)
    """How long the answer to an `Idempotency-Key` is kept for repeats."""


class Reports(Section):
    """The reports resource, and the worker that makes them."""

    poll_s: float = Field(default=1.0, gt=0, le=60)
    """How long a worker that found nothing to do waits before it looks again."""

    lease_s: int = Field(default=120, ge=1, le=86_400)
    """How long a worker has a report to itself. Longer than any takes: then another worker may make it again."""

    tries: int = Field(default=3, ge=1, le=20)
    """How often a report is begun before it counts as failed."""


class Settings(Section):
    """All of it."""

    profile: ProfileName = DEVELOPMENT
    """Name of the profile that was loaded; chosen by `APP_PROFILE`, never by a file."""

    debug: bool = False
    """Flask's debugger. Refused outside the profile dev."""

    log: Log = Log()
    http: Http = Http()
    database: Database = Database()
    items: Items = Items()
    reports: Reports = Reports()

    @model_validator(mode="after")
    def _development_stays_in_development(self) -> Self:
        if self.profile != DEVELOPMENT:
            if self.debug:
                raise _broken_rule("debug", f"found True, expected False in the profile {self.profile!r}")
            if self.http.metrics:
                raise _broken_rule("http.metrics", f"found True, expected False in the profile {self.profile!r}")
        return self


def _broken_rule(key: str, text: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{text}", {"key": key, "text": text})
