from pathlib import Path

from flask.testing import FlaskClient

from api.config import Loaded, load
from api.factory import create_app


def test_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/health/live").json == {"status": "ok"}
    assert client.get("/health/ready").json == {"status": "ok"}


def test_not_ready_before_the_first_migration_but_alive(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    client = create_app(load(environ)).test_client()
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.mimetype) == (503, "application/problem+json")
    assert "run python -m api.migrate" in ready.text
    assert client.get("/health/live").status_code == 200


def test_version_names_the_release(client: FlaskClient, loaded: Loaded) -> None:
    found = client.get("/version").json
    assert found is not None
    assert found["release"] == "1.0.0-test"
    assert found["profile"] == "staging"
