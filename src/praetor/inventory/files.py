"""Finds what makes an inventory's files unreadable before Ansible reads them: its own message names no file of group_vars. Runs on the controller."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

VARIABLES = ("group_vars", "host_vars")
ENDINGS = {
    ".yml",
    ".yaml",
    ".json",
}  # ansible-core, docs "Using variables": of group_vars and host_vars also those without an ending
VAULTED = b"$ANSIBLE_VAULT;"
VAULT_PASSWORD = "the vault's password: --vault-password-file FILE, or vault_password_file in ansible.cfg"  # noqa: S105  what is asked for


def mistakes(sources: Iterable[str], playbooks: Path, decrypt: Callable[[bytes], bytes]) -> list[str]:
    """What is wrong with the files of an inventory as YAML, each with file and line.

    Args:
        sources: what `-i` named; lists of hosts and programs are Ansible's matter.
        playbooks: where the playbook is; Ansible reads variables next to it, too.
        decrypt: opens a vaulted file; raises ValueError if it cannot.
    """
    named = list(sources)
    missing = [
        f"{each}: found no such file or directory, expected an inventory"
        for each in named
        if "," not in each and not Path(each).exists()
    ]
    return missing + [mistake for path in dict.fromkeys(_files(named, playbooks)) for mistake in _of(path, decrypt)]


def _files(sources: Iterable[str], playbooks: Path) -> Iterator[Path]:
    places = [playbooks]
    for path in map(Path, sources):
        if path.is_dir():
            places.append(path)
            yield from sorted(each for each in path.iterdir() if each.is_file() and each.suffix in ENDINGS)
        elif path.is_file():
            places.append(path.parent)
            if path.suffix in ENDINGS:
                yield path
    for place in places:
        for folder in VARIABLES:
            for at, folders, names in os.walk(place / folder):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (
                    Path(at, name)
                    for name in sorted(names)
                    if not name.startswith(".") and not name.endswith("~") and Path(name).suffix in {"", *ENDINGS}
                )


def _of(path: Path, decrypt: Callable[[bytes], bytes]) -> Iterator[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        yield f"{path}: cannot be read: {error.strerror}"
        return
    if vaulted := content.startswith(VAULTED):
        try:
            content = decrypt(content)
        except ValueError:
            yield f"{path}: found a vaulted file that cannot be decrypted, expected {VAULT_PASSWORD}"
            return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        yield f"{path}:{line}: found a byte that is not UTF-8 ({content[error.start]:#04x}), expected a file in UTF-8"
        return
    # Ansible takes JSON first, and with it tabs.
    with contextlib.suppress(ValueError):
        json.loads(text)
        return
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if vaulted:
            yield f"{path}:{line}: found what is not YAML; its text is vaulted and not shown"
            return
        began = f" {error.context} that begins in line {error.context_mark.line + 1}:" if error.context_mark else ""
        yield f"{path}:{line}: found what is not YAML:{began} {error.problem or error.context}{_why(text, line)}"
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        yield f"{path}:{line}: found the character {error.character:#04x}, which YAML does not allow"
    else:
        yield from (f"{path}:{line}: {said}" for line, said in _of_keys(root))


def _why(text: str, line: int) -> str:
    """What an editor most often did there; the parser may notice it a line late."""
    near = text.splitlines()[max(line - 2, 0) : line]
    for each in reversed(near):
        if "\t" in each[: len(each) - len(each.lstrip())]:
            return " (indent with spaces, not with a tab)"
        key, colon, value = each.partition(": ")
        if colon and value.strip().startswith("{{"):
            return f' (put the template in quotes: {key.strip()}: "{value.strip()}")'
        if colon and ": " in value and value.strip()[:1] not in {"'", '"', "{", "["}:
            return " (put a value with a colon in quotes)"
    return ""


def _of_keys(root: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Keys that a mapping has twice, or that are no words, with the line of each. What an anchor stands for is looked at once."""
    seen: set[int] = set()
    waiting = [root] if root else []
    while waiting:
        node = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[str, int] = {}
        for key, value in node.value:
            waiting.append(value)
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                yield (
                    line,
                    'found a mapping or a list as a key, expected a word; a template goes in quotes: "{{ ... }}"',
                )
            elif key.value in first and key.tag != "tag:yaml.org,2002:merge":
                yield (
                    line,
                    f"{key.value}: found for the second time, the first is in line {first[key.value]}; expected once, for only the last would count",
                )
            else:
                first[key.value] = line
