"""Bring the database to the schema that this code needs: `python -m api.migrate`. Run again, it changes nothing."""

import gc
import os
import sys

from alembic import command
from alembic.config import Config

from api import logs
from api.config import ConfigError, Loaded, load


def main() -> int:
    """Run all missing migrations; returns the exit code."""
    try:
        loaded = load(os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"{mistake}\n")
        return 1
    logs.configure("info", app=loaded.identity.name, release=loaded.identity.release)
    command.upgrade(configure(loaded), "head")
    return 0


def configure(loaded: Loaded) -> Config:
    """What alembic needs to know; there is no alembic.ini, because a wheel has none."""
    # In production the platform made it, here the first migration does.
    loaded.identity.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = Config(stdout=sys.stderr, attributes={"loaded": loaded})
    config.set_main_option("script_location", "api:migrations")
    config.set_main_option("path_separator", "os")
    return config


if __name__ == "__main__":
    status = main()
    gc.freeze()  # or the interpreter looks for garbage before it ends
    sys.exit(status)
