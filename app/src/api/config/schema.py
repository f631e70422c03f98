"""The JSON schema of what a profile and the inventory's `config` may hold."""

import json
from pathlib import Path
from typing import Any

from api.config.layers import RESERVED, SECRETS
from api.config.model import Settings

FILE = Path(__file__).parent.parent / "config.schema.json"


def schema() -> str:
    """Text of the schema: every key optional, secrets left out, because no file of settings may hold one."""
    tree: dict[str, Any] = Settings.model_json_schema()
    del tree["properties"][RESERVED]
    sections = {
        name: tree["$defs"][inner["$ref"].rpartition("/")[2]]
        for name, inner in tree["properties"].items()
        if "$ref" in inner
    }
    for path in SECRETS:
        section, _, key = path.rpartition(".")
        del sections[section]["properties"][key]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Settings of the reference API"}
    tree.pop("description")
    return json.dumps(head | tree, indent=2, sort_keys=False) + "\n"
