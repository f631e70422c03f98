"""What views need besides the request."""

from dataclasses import dataclass

from flask import current_app

from api.config import Identity, Settings
from api.database import Database

_KEY = "api"


@dataclass(frozen=True)
class Services:
    """Made once by the factory, before uWSGI forks."""

    settings: Settings
    identity: Identity
    database: Database


def services() -> Services:
    """Those of the running app."""
    found: Services = current_app.extensions[_KEY]
    return found
