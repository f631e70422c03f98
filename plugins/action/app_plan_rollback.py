"""Chooses the earlier release that all hosts go back to; contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.away import left_out, refusal
from praetor.run.batches import batches
from praetor.run.owner import start
from praetor.run.plan import lease_s, rollback_target


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns the `release` to go back to, and `run`, as app_plan does, and whether that is `needed`.

    Arguments: `apps` as check_apps returned them; `register`, the variable with each host's survey; `only`, one app; `release`, its id; `why`; `force`.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Choose."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        hosts = list(variables["ansible_play_hosts_all"])
        surveys = {host: variables["hostvars"][host][args["register"]] for host in hosts}
        if refused_away := refusal(surveys, str(variables.get("ansible_limit", ""))):
            return {**result, "failed": True, "msg": refused_away}
        without = left_out(variables["groups"]["app_hosts"], hosts)
        apps = [app for app in args["apps"] if args["only"] in ("", app["name"])]
        if len(apps) != 1:
            known = ", ".join(app["name"] for app in args["apps"])
            return {
                **result,
                "failed": True,
                "msg": f"Say which app to roll back with -e app=NAME; the inventory has: {known}",
            }
        app = apps[0]
        try:
            target = rollback_target(app["name"], surveys, args["release"], force=args["force"])
        except ReleaseError as error:
            return {**result, "failed": True, "msg": f"Nothing was changed. {error}"}
        states = {host: survey["apps"][app["name"]] for host, survey in surveys.items()}
        lines = [f"{app['name']}: roll back to {target}"]
        lines += [f"  {host}: {state['live']} -> {target}" for host, state in states.items()]
        Display().display("\n".join(lines))
        needed = any(state["live"] != target or not state["settled"] or state["leftovers"] for state in states.values())
        release = {
            "app": app["name"],
            "id": target,
            "server_name": app["server_names"][0],
            "options": app["release"],
            "batches": batches(hosts, app["release"]["batches"]),
        }
        return {
            **result,
            "changed": False,
            "needed": needed,
            "release": release,
            "run": {**start("rollback", args["why"]), "lease_s": lease_s([release]), "without": without},
        }
