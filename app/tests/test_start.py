"""The modules that a server or a shell starts."""

import importlib
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from werkzeug.serving import BaseWSGIServer

import api.__main__
from api import metrics, wsgi
from api.config import ConfigError
from conftest import database_of, free_port


@pytest.fixture
def restored() -> Iterator[None]:
    """Signals as they were."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_wsgi_module_makes_the_app_that_the_environment_describes(base: dict[str, str]) -> None:
    app = importlib.reload(wsgi).app
    assert app.test_client().get("/version").get_json()["release"] == base["APP_RELEASE"]
    database_of(app).close()


def test_wsgi_module_ends_with_a_refused_configuration(
    base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_X", "1")
    with pytest.raises(SystemExit) as ended:
        importlib.reload(wsgi)
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "environment API_X: unknown setting" in err
    assert issubclass(ConfigError, Exception)


def test_what_is_loaded_is_left_to_all_workers() -> None:
    code = "import gc, api.wsgi; print(gc.isenabled(), gc.get_freeze_count() > 50_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={})
    assert done.stdout == b"True True\n"


def test_own_server_ends_with_a_signal(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = BaseWSGIServer.serve_forever

    def shortly(self: BaseWSGIServer, poll_interval: float = 0.5) -> None:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGTERM]).start()
        serve(self, 0.05)

    monkeypatch.setattr(BaseWSGIServer, "serve_forever", shortly)
    api.__main__.main(free_port())


@pytest.mark.parametrize("module", ["api.config", "api.migrate"])
def test_commands_end_with_their_code(
    module: str, base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "check"])
    monkeypatch.setenv("API_X", "1")
    sys.modules.pop(f"{module}.__main__" if module == "api.config" else module, None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 1
    assert "API_X" in capsys.readouterr().err


def test_labels_of_a_worker_outside_of_uwsgi_are_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics._worker().startswith("p")
    fake = type(sys)("uwsgi")
    fake.worker_id = lambda: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", fake)
    assert metrics._worker() == "w3"
