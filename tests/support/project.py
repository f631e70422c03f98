"""The project's own files, as the static tests read them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from praetor.inventory.model import App

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.name for path in (ROOT / "roles").glob("*/meta"))
INVENTORIES = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/hosts.yml"))
PLAYBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "playbooks").glob("*.yml"))


class Vaulted(str):
    """A value that is encrypted in its file."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """Reads Ansible's YAML."""


def _vault(loader: yaml.Loader, node: yaml.Node) -> Vaulted:
    assert isinstance(node, yaml.ScalarNode)
    return Vaulted(loader.construct_scalar(node))


_Loader.add_constructor("!vault", _vault)
_Loader.add_constructor("!unsafe", _vault)


def app_entry(**given: Any) -> dict[str, Any]:
    """Return an entry of `apps` with every default filled in, as the inventory's check gives it to the build."""
    entry = {"name": "api", "wsgi": "main:app", "server_names": ["api.example"], "source": {"path": "project"}}
    return App.model_validate(entry | given).model_dump(exclude={"secrets"})


def load(path: Path) -> Any:
    """Read one YAML file; an encrypted value is a `Vaulted`."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # a SafeLoader with two tags more


def defaults(role: str) -> dict[str, Any]:
    """Return the defaults of a role."""
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    return load(path) or {} if path.exists() else {}


def options(role: str) -> dict[str, dict[str, Any]]:
    """Return the declared inputs of a role, of all its entry points."""
    path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    specs = load(path)["argument_specs"].values() if path.exists() else []
    return {name: option for spec in specs for name, option in spec.get("options", {}).items()}


def files_of(*patterns: str) -> list[Path]:
    """Return the files that match, as git would see them."""
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(path for path in found if path.is_file() and path.parent.name != "__pycache__")


def ansible(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs in the project, with the project's settings."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=600
    )


def imported(path: str) -> ModuleType:
    """Import a plugin or module that lies in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
