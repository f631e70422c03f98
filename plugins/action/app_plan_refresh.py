"""Finds the release of each app that is live on all hosts, to be started again; contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.away import left_out, refusal
from praetor.run.batches import batches
from praetor.run.owner import start
from praetor.run.plan import lease_s, live_everywhere


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns the `releases` to start again, and `run`, as app_plan does.

    Arguments: `apps` as check_apps returned them; `register`, the variable with each host's survey; `only`, one app; `why`.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Find."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        hosts = list(variables["ansible_play_hosts_all"])
        surveys = {host: variables["hostvars"][host][args["register"]] for host in hosts}
        if refused_away := refusal(surveys, str(variables.get("ansible_limit", ""))):
            return {**result, "failed": True, "msg": refused_away}
        without = left_out(variables["groups"]["app_hosts"], hosts)
        releases, lines = [], []
        try:
            for app in args["apps"]:
                if args["only"] not in ("", app["name"]):
                    continue
                found = live_everywhere(app["name"], surveys)
                lines.append(f"{app['name']}: start {found} again")
                for host, survey in surveys.items():
                    why = "; ".join(survey["apps"][app["name"]]["outdated"]) or "nothing asks for it"
                    lines.append(f"  {host}: {why}")
                releases.append(
                    {
                        "app": app["name"],
                        "id": found,
                        "server_name": app["server_names"][0],
                        "options": app["release"],
                        "batches": batches(hosts, app["release"]["batches"]),
                    }
                )
        except ReleaseError as error:
            return {**result, "failed": True, "msg": f"Nothing was changed. {error}"}
        Display().display("\n".join(lines))
        run = {**start("refresh", args["why"]), "lease_s": lease_s(releases), "without": without}
        return {**result, "changed": False, "releases": releases, "run": run}
