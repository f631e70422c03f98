"""What a phase of a planned run tells a host. It is taken from the plan here, because a template for each value would cost more than the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from praetor.documents import Release, Run, Target


def told(phase: str, plan: Mapping[str, Any], app: str, host: str) -> tuple[Run, dict[str, Any]]:
    """The run, and what the phase is told of it on a host.

    Args:
        phase: its name in `praetor.host.phases`.
        plan: what app_plan, app_plan_rollback or app_plan_refresh returned.
        app: the app whose release it is.
        host: the host.

    Raises:
        LookupError: nothing says what this phase is told.
    """
    [release] = [each for each in plan["releases"] if each["app"] == app]
    return plan["run"], _told(phase, release, host)


def _told(phase: str, release: Target | Release, host: str) -> dict[str, Any]:
    whole: Mapping[str, Any] = release
    options = release["options"]
    match phase:
        case "lock":
            return {"drain_s": options["drain_s"]}
        case "stage":
            found = {name: whole[name] for name in ("manifest", "parts", "files")}
            return {**found, "drain_s": options["drain_s"], "checks": whole["commands"]["check"]}
        case "migrate":
            return {"release": release["id"], "commands": whole["commands"]["migrate"]}
        case "gate":
            return {"release": release["id"], "server_name": release["server_name"], "drain_s": options["drain_s"]}
        case "flip":
            log = f"/var/log/nginx/{release['app']}.access.log"
            return {"limits": options, "place": release["places"][host], "access_log": log}
        case "settle":
            return {"release": release["id"], "keep": options["keep"], "drain_s": options["drain_s"]}
    raise LookupError(f"nothing says what phase {phase} is told")
