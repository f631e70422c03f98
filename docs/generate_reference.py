"""Writes docs/reference/, docs/apps/published.md and src/praetor/entry.py from the places where the facts live.

apps.md and entry.py come from the model that checks the inventory, playbooks.md from their declared options, roles.md from each role's argument_specs and
defaults, published.md from the inventory of the scenario `apps`.
`--check` writes nothing and fails if a page is not current.
"""

import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from praetor.inventory import entry_types
from praetor.inventory.check import check_apps
from praetor.inventory.mistakes import path_text
from praetor.inventory.model import RESERVED_VARIABLES, App
from praetor.run.options import PLAYBOOKS

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOKS_INTRO = """\
# Options of the playbooks

Given with `-e name=value` after `ansible-playbook playbooks/<name>.yml -i inventories/<environment>`. `-e help=true` prints them. An option that the
playbook does not have is refused, and so is a value of another kind. Any [input of a role](roles.md) can be given for one run in the same way.

"""
NOTE = "<!-- Written by docs/generate_reference.py (`make docs`). Changes here are overwritten. -->\n\n"

APPS_INTRO = """\
# An app in the inventory

`apps` in `inventories/<environment>/group_vars/all/apps.yml` is a list. Each entry is one app; a key that is not
named here is a mistake. `ansible-playbook playbooks/check.yml -i inventories/<environment>`
checks it without contacting a host. Every other playbook begins with the same check: a mistake ends it before a host is contacted, and the
message says file, line, place, what was found and what is expected. All mistakes are shown at once.

Complete entries for each kind of project: [docs/apps](../apps/README.md).

    apps:
      - name: api
        source: {path: app}
        wsgi: api.wsgi:app
        server_names: [api.example.org]

"""

APPS_END = """\
## What an app finds in its environment

Every key of `env` and `secrets`, and the variables that the release sets itself, which therefore no app can set:
{variables}.

## Rules across keys

- Two apps share neither `name` nor a server name. All hosts of a play have the same apps, each defined the same; groups
  of hosts that have different apps need a run each, with `--limit`.
- `source` has exactly one of `path`, `git` and `package`; `ref` and `subdir` go with `git`; `requirements`, `extras`, `include` and `build` go with
  a project's files, so not with `package`.
- `${{APP_DATA_DIR}}` in `env`, `config` and `commands` is replaced by the app's data directory, and no other variable is.
- `release.drain_s` is at least `limits.request_s`.
- Vaulted values stand under `secrets` only, and a variable in one of `secrets` and `env`.
- For a `path` source: the directory holds a `pyproject.toml`, a `requirements.txt` or another file that says what the project needs; if the project ships
  `src/*/profiles/`, `profile` is one of those; if it ships `src/*/config.schema.json`, `config` fits that JSON schema.
"""

ROLES_INTRO = """\
# Inputs of the roles

Set them in `inventories/<environment>/group_vars/all/<topic>.yml`, and only where they differ from the default.
An input whose default reads "set by the playbook" is wired in `playbooks/` and is not meant for an inventory.

"""


PUBLISHED_INTRO = """# Published projects

Entries that work, of projects that know nothing of this one. The scenario `apps` (`make molecule SCENARIO=apps`) releases each of them to Debian 12
and Debian 13 and uses it as a person with a browser does: forms, redirects, scripts and styles, uploads, downloads over a slow line.

`"{{ vault_... }}"` is a vaulted value ([inventories](../../inventories/README.md)). Those with a database in a file (`migrate_on: each`) are for one
host; on several, give them `database: true` ([databases](../databases.md)).

"""


def cell(text: str) -> str:
    """Return a text that a cell of a Markdown table can hold."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def code(value: object) -> str:
    """Return a value as it stands in YAML."""
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell(text) for text in line)} |\n" for line in lines)


def model_of(info: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a mapping with fixed keys."""
    return info.annotation if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel) else None


def item_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the items of a list of mappings with fixed keys."""
    if get_origin(annotation) is list and isinstance(item := get_args(annotation)[0], type):
        return item if issubclass(item, BaseModel) else None
    return next(filter(None, map(item_of, get_args(annotation))), None)


def default_of(info: FieldInfo) -> str:
    """Say what a key is when the inventory does not set it."""
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True, validated_data={})
    return "" if value is None or isinstance(value, BaseModel) else code(value)


HEAD = ("key", "example", "default", "meaning", "a wrong value is answered")
ENTRY: dict[str, object] = {
    "name": "a",
    "source": {"package": "a==1"},
    "wsgi": "a:app",
    "server_names": ["a.example.org"],
}
WRONG: tuple[object, ...] = (-1, "", "?", 0.5, ["?"], [{}], {"?": 1}, "/../", ["/../"])


def example_of(key: str, info: FieldInfo) -> str:
    """Return an example of a key: its own, or its default."""
    if info.examples:
        return f"`{info.examples[0]}`"
    return f"`{key}: {json.dumps(info.get_default(call_default_factory=True, validated_data={}), ensure_ascii=False)}`"


def answer_to_a_mistake(place: tuple[str | int, ...]) -> str:
    """Say what the check answers when a key has a value that it cannot have."""
    for wrong in WRONG:
        entry = json.loads(json.dumps(ENTRY))
        part: Any = entry
        for key, below in itertools.pairwise(place):
            if isinstance(below, int):
                part[key] = [{}]
            part = part[key] if isinstance(key, int) else part.setdefault(key, {})
        part[place[-1]] = wrong
        wanted = (0, *place)
        for problem in check_apps([entry], ROOT).problems:
            if problem.where[: len(wanted)] == wanted:
                return f"`{path_text(problem.where)}`: found {problem.found}, expected {problem.expected}"
    msg = f"{'.'.join(map(str, place))}: no value is wrong"
    raise ValueError(msg)


def app_rows(model: type[BaseModel], *above: str | int) -> Iterator[tuple[str, ...]]:
    """Yield key, example, default, meaning and the answer to a mistake of each key of a model."""
    for key, info in model.model_fields.items():
        example = f"[below](#{key})" if model_of(info) else example_of(key, info)
        if item_of(info.annotation):
            example += f" [below](#{''.join(map(str, above))}{key})"
        yield f"`{key}`", example, default_of(info), str(info.description), answer_to_a_mistake((*above, key))


def item_section(info: FieldInfo, *place: str) -> str:
    """Return the section about the entries of a list; empty for a key that is none."""
    item = item_of(info.annotation)
    if item is None:
        return ""
    return f"\n## {'.'.join(place)}\n\nEach entry of the list. {item.__doc__}\n\n" + table(
        HEAD, list(app_rows(item, *place, 0))
    )


def apps_page() -> str:
    """Return the page about an entry of `apps`."""
    text = APPS_INTRO + table(HEAD, list(app_rows(App)))
    for key, info in App.model_fields.items():
        if (inner := model_of(info)) is not None:
            text += f"\n## {key}\n\n{inner.__doc__}\n\n" + table(HEAD, list(app_rows(inner, key)))
            text += "".join(item_section(inner_info, key, below) for below, inner_info in inner.model_fields.items())
        text += item_section(info, key)
    variables = ", ".join(f"`{name}`" for name in sorted(RESERVED_VARIABLES))
    return text + "\n" + APPS_END.format(variables=variables)


def read(path: Path) -> Any:
    """Read a YAML file; one that is absent is empty."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}


def roles_page() -> str:
    """Return the page about the inputs of all roles."""
    text = ROLES_INTRO
    for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        role = specs.parent.parent
        spec = read(specs)["argument_specs"]["main"]
        defaults = read(role / "defaults" / "main.yml")
        rows = []
        for name, option in (spec.get("options") or {}).items():
            kind = f"{option['type']} of {option['elements']}" if "elements" in option else option["type"]
            kind += f": {', '.join(map(str, option['choices']))}" if "choices" in option else ""
            without = "set by the playbook" if option.get("required") else "none"
            default = code(defaults[name]) if name in defaults else without
            rows.append((f"`{name}`", kind, default, str(option["description"])))
        text += f"## {role.name}\n\n{spec['short_description'].rstrip('.')}. [README](../../roles/{role.name}/README.md)\n\n"
        text += (table(("input", "type", "default", "meaning"), rows) if rows else "No inputs.\n") + "\n"
    return text.rstrip("\n") + "\n"


def playbooks_page() -> str:
    """Return the page about the options of all playbooks."""
    text = PLAYBOOKS_INTRO
    for playbook, options in PLAYBOOKS.items():
        lines = (ROOT / "playbooks" / f"{playbook}.yml").read_text(encoding="utf-8").splitlines()
        first = next(line for line in lines if line.startswith("# "))
        rows = [
            (f"`{name}`", ", ".join(option.choices) or option.kind, option.described)
            for name, option in options.items()
        ]
        text += f"## {playbook}.yml\n\n{first.removeprefix('# ')}\n\n"
        text += (table(("option", "value", "meaning"), rows) if rows else "No options.\n") + "\n"
    return text.rstrip("\n") + "\n"


def published_page() -> str:
    """Return the page with the entries of published projects: those that the scenario `apps` releases and uses."""
    folder = ROOT / "molecule/apps"
    lines = (folder / "inventory/group_vars/all/apps.yml").read_text(encoding="utf-8").splitlines()
    text = PUBLISHED_INTRO
    # Each entry has its comment above it.
    for part in "\n".join(lines[lines.index("apps:") + 1 :]).split("\n\n"):
        about = [line.strip().removeprefix("# ") for line in part.splitlines() if line.startswith("  #")]
        entry = [line for line in part.splitlines() if not line.startswith("  #")]
        name = entry[0].removeprefix("  - name: ")
        shown = "\n".join(f"      {line[2:]}" for line in entry)
        for here, there in (
            ("{{ apps_sources }}", ".."),
            ("molecule/apps/projects", ".."),
            (".lab.example", ".example.org"),
        ):
            shown = shown.replace(here, there)
        own = folder / "projects" / name
        files = sorted(path for path in own.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        named = ", ".join(
            f"[{path.relative_to(own)}](../../{path.relative_to(ROOT)})" for path in files[:6] if path.stat().st_size
        )
        text += f"## {name}\n\n" + "\n".join(about) + "\n\n    apps:\n" + shown + "\n\n"
        text += f"Its files: {named}.\n\n" if named else ""
    return text.rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are not current; returns the exit code."""
    stale = []
    pages = {
        "docs/reference/apps.md": NOTE + apps_page(),
        "docs/reference/playbooks.md": NOTE + playbooks_page(),
        "docs/reference/roles.md": NOTE + roles_page(),
        "docs/apps/published.md": NOTE + published_page(),
        "src/praetor/entry.py": entry_types.source(),
    }
    for name, text in pages.items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        verb = "is not current: run `make docs`" if "--check" in arguments else "written"
        sys.stdout.write("".join(f"{name} {verb}\n" for name in stale))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
