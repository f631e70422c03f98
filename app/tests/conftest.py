"""What all tests share."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import migrate
from api.config import Loaded, load
from api.factory import create_app


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the app: profile staging, data in a directory of the test's own."""
    values = {"APP_PROFILE": "staging", "APP_DATA_DIR": str(tmp_path / "data"), "APP_RELEASE": "1.0.0-test"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def loaded(environ: dict[str, str]) -> Loaded:
    assert migrate.main() == 0
    return load(environ)


@pytest.fixture
def app(loaded: Loaded) -> Flask:
    return create_app(loaded)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
