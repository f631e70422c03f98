"""What the tests share: the paths of the project, and a host that is a directory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import ansible.module_utils
import pytest
from project import ROOT

if TYPE_CHECKING:
    from fakes import FakeEmperor, Systemd, Units

    from praetor.host.layout import AppHost

# What Ansible does on a host for modules that share code.
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory with a short name: a socket's path has 107 bytes, and pytest's own directories take most of them."""
    with tempfile.TemporaryDirectory(prefix="p") as directory:
        yield Path(directory)


@pytest.fixture
def host(place: Path) -> "AppHost":
    """Return a provisioned host with the app `api`."""
    from fakes import host_in  # noqa: PLC0415  only where it is asked for

    return host_in(place)


@pytest.fixture(scope="session", autouse=True)
def systemd() -> Iterator["Systemd"]:
    """Return the systemd of all hosts of the tests."""
    from fakes import Systemd  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        found = Systemd()
        patch.setattr("praetor.host.emperors._systemctl", found)
        patch.setattr("praetor.host.sandbox.reload", lambda: None)
        yield found


@pytest.fixture(autouse=True)
def units(monkeypatch: pytest.MonkeyPatch) -> "Units":
    """Return the units of processes of all hosts of the test."""
    from fakes import Units  # noqa: PLC0415

    found = Units()
    for module in ("jobs", "processes", "systemd"):
        monkeypatch.setattr(f"praetor.host.{module}.systemctl", found)
    return found


@pytest.fixture
def emperor(host: "AppHost") -> Iterator["FakeEmperor"]:
    """Return an Emperor whose slots are healthy."""
    from fakes import FakeEmperor  # noqa: PLC0415

    running = FakeEmperor(host.layout)
    yield running
    running.close()
