"""What the tests share: the paths of the project, and its module_utils under both of their names."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
MODULE_UTILS = ROOT / "roles" / "flask_app" / "module_utils"

sys.path.insert(0, str(MODULE_UTILS))
sys.path.insert(0, str(ROOT / "roles" / "app_exporter" / "files"))


class _AnsibleName(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `ansible.module_utils.praetor`, the name on a host, the very module that tests import as `praetor`."""

    prefix = "ansible.module_utils."

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for our own package only."""
        del path, target
        ours = name == self.prefix + "praetor" or name.startswith(self.prefix + "praetor.")
        return importlib.machinery.ModuleSpec(name, self) if ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module under its short name."""
        return importlib.import_module(spec.name.removeprefix(self.prefix))

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the import under the short name ran it."""


sys.meta_path.insert(0, _AnsibleName())
