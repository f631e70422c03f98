"""What the tests share: the paths of the project, its module_utils under both of their names, and a host that is a directory."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fakes import FakeEmperor
    from praetor.host import AppHost

ROOT = Path(__file__).resolve().parent.parent
MODULE_UTILS = ROOT / "roles" / "flask_app" / "module_utils"

sys.path.insert(0, str(MODULE_UTILS))
sys.path.insert(0, str(ROOT / "roles" / "app_exporter" / "files"))
sys.path.insert(0, str(ROOT / "roles" / "certificates" / "module_utils"))
sys.path.insert(0, str(ROOT / "roles" / "certificates" / "library"))
sys.path.insert(0, str(ROOT / "roles" / "lab_host" / "module_utils"))
sys.path.insert(0, str(ROOT / "roles" / "lab_host" / "library"))


class _AnsibleName(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `ansible.module_utils.praetor`, the name on a host, the very module that tests import as `praetor`.

    The lab's `lab_process` likewise.
    """

    prefix = "ansible.module_utils."

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for our own package only."""
        del path, target
        ours = name.startswith((self.prefix + "praetor", self.prefix + "lab_process"))
        return importlib.machinery.ModuleSpec(name, self) if ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module under its short name."""
        return importlib.import_module(spec.name.removeprefix(self.prefix))

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the import under the short name ran it."""


sys.meta_path.insert(0, _AnsibleName())


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


@pytest.fixture
def emperor(host: "AppHost") -> Iterator["FakeEmperor"]:
    """Return an Emperor whose slots are healthy."""
    from fakes import FakeEmperor  # noqa: PLC0415

    running = FakeEmperor(host.layout)
    yield running
    running.close()
