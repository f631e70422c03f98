"""Reads an inventory's variables as plain data, and remembers the file and line that each value came from. Runs on the controller."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from praetor.inventory.files import VAULT_PASSWORD
from praetor.inventory.mistakes import Problem, Where

try:
    from ansible._internal._datatag._tags import Origin, VaultedValue
except ImportError:  # internal to ansible-core: without it the messages lack file and line
    Origin = VaultedValue = None


class Reader:
    """Turns a variable into plain data, and remembers where each value came from and what was vaulted."""

    def __init__(self, templar: Any) -> None:
        """Take what fills in templates and opens what is vaulted."""
        self._templar = templar
        self.origins: dict[Where, tuple[str, int]] = {}
        self.vaulted: set[Where] = set()
        self.encrypted: list[Any] = []
        self.bare: list[Where] = []
        self.problems: list[Problem] = []

    def read(self, value: Any, where: Where = ()) -> Any:
        """Return `value` as plain data; what cannot be resolved becomes a problem and an empty string."""
        self.note(value, where)
        if isinstance(value, Mapping):
            result = {}
            for key, inner in value.items():
                self.note(key, (*where, key))
                result[self._native(key)] = self.read(inner, (*where, key))
            return result
        if isinstance(value, list | tuple):
            return [self.read(inner, (*where, index)) for index, inner in enumerate(value)]
        encrypted = type(value).__name__ == "EncryptedString"
        if encrypted:
            self.encrypted.append(value)
        try:
            resolved = self._templar.template(value)
        except AnsibleError as error:
            self.vaulted.add(where)
            self.problems.append(_unresolved(where, encrypted=encrypted, error=error))
            return ""
        if encrypted or (VaultedValue is not None and VaultedValue.is_tagged_on(resolved)):
            self.vaulted.add(where)
        elif where[1:2] == ("secrets",) and resolved == value:
            self.bare.append(where)
        if isinstance(resolved, Mapping | list | tuple):
            return self.read(resolved, where)
        return self._native(resolved)

    def origin(self, where: Where) -> tuple[str, int]:
        """Return file and line of a value, or of the nearest thing around it; empty and 0 if unknown."""
        for length in range(len(where), -1, -1):
            if found := self.origins.get(where[:length]):
                return found
        return "", 0

    def note(self, value: Any, where: Where) -> None:
        """Remember where a value came from, unless a place closer to it is known."""
        tag = Origin.get_tag(value) if Origin is not None else None
        if tag is not None and tag.path and where not in self.origins:
            path = Path(tag.path)
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            self.origins[where] = str(shown), tag.line_num or 0

    @staticmethod
    def _native(value: Any) -> Any:
        """Strip Ansible's tags off a scalar."""
        for kind in (str, int, float):
            if isinstance(value, kind) and not isinstance(value, bool):
                return kind(value)
        return value


def _unresolved(where: Where, *, encrypted: bool, error: AnsibleError) -> Problem:
    reason = str(error).partition("\n")[0]
    if encrypted or "decrypt" in reason:
        return Problem(
            where,
            "a vaulted value that cannot be decrypted",
            VAULT_PASSWORD,
        )
    return Problem(where, f"a template that cannot be resolved ({reason})", "a variable that is defined")
