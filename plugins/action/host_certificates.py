"""Decides which certificates a host needs, issues or checks them on the controller, and installs them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from praetor.host.steps import Step
from praetor.pki.authority import Authority, Wanted, load, make
from praetor.pki.pem import PemError
from praetor.pki.plan import (
    HOST,
    Plan,
    Provided,
    foreign_authority,
    plan_issued,
    plan_provided,
    read_provided,
    site_place,
)
from praetor.run.on_host import HostAction

Sites = dict[str, tuple[str, ...]]
_AUTHORITY_ENDS_SOON_DAYS = 400


class ActionModule(HostAction):
    """Arguments: those of the role, without its prefix. Returns `why`, a sentence for each file that was or would be written."""

    _supports_check_mode = True
    WORK = "steps"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check what is given, look at the host, install what is missing."""
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        sites: Sites = {str(site["name"]): tuple(map(str, site["server_names"])) for site in self._task.args["sites"]}
        now = datetime.now(UTC)
        provided, problems = self._provided(sites, now)
        if problems:
            many = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            message = f"{many} in certificates_provided. Nothing was changed."
            return {**result, "failed": True, "msg": message, "mistakes": "\n".join(problems) + "\n"}
        try:
            return {**result, **self._done(sites, provided, now)}
        except (PemError, OSError) as error:
            return {**result, "failed": True, "msg": str(error)}

    def _provided(self, sites: Sites, now: datetime) -> tuple[dict[str, Provided], list[str]]:
        args = self._task.args
        if args["mode"] != "provided":
            return {}, []
        # A path is relative to the project, which is where ansible.cfg is.
        base = Path(constants.CONFIG_FILE).parent if constants.CONFIG_FILE else Path.cwd()
        return read_provided(args["provided"], sites, args["roots_file"], base, now)

    def _done(self, sites: Sites, provided: dict[str, Provided], now: datetime) -> dict[str, Any]:
        args, dry = self._task.args, bool(self._task.check_mode)
        issued = {HOST: Wanted(tuple(map(str, args["host_names"])), client=True)}
        if args["mode"] in {"internal", "acme"}:
            issued |= {site_place(name): Wanted(names, client=False) for name, names in sites.items()}
        places = {HOST: "cert.pem"}
        if args["mode"] != "none":
            places |= {site_place(name): "fullchain.pem" for name in sites}
        seen = self._places({"places": places, "make_keys": list(issued)})
        if seen.get("failed"):
            return seen
        authority = self._authority(str(seen["authority"]), now)
        days, keep = {"days": args["days"], "renew_days": args["renew_days"]}, args["mode"] == "acme"
        plan = plan_issued(seen, issued, authority, **days, keep_foreign=keep, now=now)
        plan.add(plan_provided(seen["places"], provided))
        plan.why += [f"{place}: its key was not root's alone" for place in seen["repaired"]]
        if plan.files and not dry:
            installed = self._places({"files": plan.files})
            if installed.get("failed"):
                return installed
        return self._said(plan, seen, authority, now)

    def _authority(self, on_host: str, now: datetime) -> Authority | None:
        """Return the controller's authority; none in a dry run before it is made."""
        args = self._task.args
        directory = Path(args["authority_dir"]).expanduser()
        authority = load(directory)
        refusal = foreign_authority(on_host, authority, directory)
        if refusal and not boolean(args["replace_authority"]):
            raise PemError(refusal)
        if authority is None and not self._task.check_mode:
            authority = make(directory, str(args["authority_name"]), now)
        return authority

    def _places(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """What the host says of its keys and certificates; first it gets the program that makes keys."""
        openssl: Step = {"work": "debian_packages", "params": {"name": ["openssl"]}, "needs": ""}
        places: Step = {"work": "tls_places", "params": {"root": self._task.args["root"], **args}, "needs": ""}
        answer = self.on_host({"check": self._task.check_mode, "steps": [openssl, places]})
        if why := answer.get("reason") or answer.get("msg"):
            return {"failed": True, "msg": why}
        installed, found = answer["done"]
        return {**found, "changed": installed["changed"] or found["changed"]}

    @staticmethod
    def _said(plan: Plan, seen: Mapping[str, Any], authority: Authority | None, now: datetime) -> dict[str, Any]:
        warnings = plan.warnings
        if authority is not None:
            left = (authority.certificate.not_valid_after_utc - now).days
            if left < _AUTHORITY_ENDS_SOON_DAYS:
                warnings.append(
                    f"the internal authority ends in {left} days: roles/certificates/README.md says how to replace it"
                )
        return {
            "changed": bool(plan.why or seen["changed"]),
            "why": plan.why,
            "warnings": warnings,
            "diff": {"before": "", "after": "".join(f"{line}\n" for line in plan.why)},
        }
