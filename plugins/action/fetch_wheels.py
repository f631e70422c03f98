"""Fetches the wheels of locked requirements to the controller, for the systems of the play's hosts; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from praetor.build.cache import place, place_of
from praetor.build.requirements import parsed
from praetor.build.wheels import fetch
from praetor.host.layout import ReleaseError
from praetor.run.on_controller import ControllerAction
from praetor.run.pythons import gathered


class ActionModule(ControllerAction):
    """Returns `wheels`: files on the controller for each host whose facts were gathered. Arguments: `requirements`, a locked file; `cache`, a directory."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Fetch what the cache does not have."""
        locked = parsed(Path(args["requirements"]).read_text(encoding="utf-8"))
        cache = place(args["cache"])
        hosts = {host: tag for host in self.hosts if (tag := gathered(self.variables["hostvars"][host]))}
        fetched = {tag: fetch(locked, tag, None, cache) for tag in sorted(set(hosts.values()))}
        lacking = {each.text for _, without in fetched.values() for each in without}
        if lacking:
            raise ReleaseError(f"no wheel at the package index: {', '.join(sorted(lacking))}")
        return {
            "wheels": {host: [str(place_of(wheel, cache)) for wheel in fetched[tag][0]] for host, tag in hosts.items()}
        }
