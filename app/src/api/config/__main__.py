"""Look at the configuration: `python -m api.config check|show|schema`."""

import argparse
import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from api.config.layers import ConfigError, Loaded, load
from api.config.schema import schema

MASK = '"**********"'  # what is passed as a secret is one, whatever the model says


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns the exit code: 0 fine, 1 the configuration is refused, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m api.config", description="Look at the configuration.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="check all layers, print nothing but mistakes")
    commands.add_parser("show", help="print each value with the layer that it came from")
    commands.add_parser("schema", help="print the JSON schema of the settings")
    command = parser.parse_args(arguments).command
    if command == "schema":
        sys.stdout.write(schema())
        return 0
    try:
        loaded = load(environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"{mistake}\n")
        return 1
    if command == "show":
        sys.stdout.write(table(loaded))
    return 0


def table(loaded: Loaded) -> str:
    """One line for each setting: key, value (secrets masked), layer, file or variable."""
    values = loaded.settings.model_dump(mode="json")
    rows = [
        (path, MASK if origin.layer == "secrets" else json.dumps(_at(values, path)), origin.layer, origin.place)
        for path, origin in loaded.origins.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d}\n" for a, b, c, d in rows)


def _at(values: Mapping[str, Any], path: str) -> object:
    head, _, rest = path.partition(".")
    return _at(values[head], rest) if rest else values[head]


if __name__ == "__main__":
    status = main(sys.argv[1:], os.environ)
    gc.freeze()  # or the interpreter looks for garbage before it ends, for as long as half of the imports took
    sys.exit(status)
