"""Builds the releases of a run on the controller; contacts no host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

from praetor.build.artifacts import SETTINGS, build, fingerprint, identify, recorded
from praetor.build.parts import site, vassal
from praetor.host.layout import ReleaseError
from praetor.run.batches import batches
from praetor.run.owner import start


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `releases`: for each app its id, manifest, rendered parts and the places of its files on the controller; and `run`: who runs this.

    Arguments: `apps`, `secrets` and `root` as check_apps returned them; `vassal`, the template of vassal files; `site`, that of sites, and whether
    these speak `tls` and log to the `journal` too; `server`, locked requirements with pyuwsgi; `cache`, a directory; `hosts` of the run; `action` and `why`; `only`,
    the one app to release; `release`, the id of one built before; `commit` of a source that has no history here.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build each app, or take what was built before."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = json.loads(json.dumps({key: value for key, value in self._task.args.items() if key != "secrets"}))
        secrets = {
            app: {key: str(value) for key, value in found.items()} for app, found in self._task.args["secrets"].items()
        }
        apps = [app for app in args["apps"] if args.get("only") in (None, "", app["name"])]
        if not apps:
            known = ", ".join(app["name"] for app in args["apps"])
            return {**result, "failed": True, "msg": f"app={args['only']}: no such app; the inventory has: {known}"}
        try:
            releases = [self._release(app, secrets.get(app["name"], {}), args) for app in apps]
        except ReleaseError as error:
            return {**result, "failed": True, "msg": f"{error}\nNo host was contacted."}
        return {**result, "changed": False, "releases": releases, "run": start(args["action"], args.get("why") or "")}

    @staticmethod
    def _release(app: dict[str, Any], secrets: dict[str, str], args: dict[str, Any]) -> dict[str, Any]:
        cache = Path(args["cache"]).expanduser()
        vassal_text = vassal(app, Path(args["vassal"]))
        if args.get("release"):
            artifact = recorded(cache, app["name"], args["release"])
        else:
            artifact = build(app, cache, Path(args["root"]), Path(args["server"]))
            artifact = {**artifact, "commit": artifact["commit"] or args.get("commit") or None}
        site_text = site(app, Path(args["site"]), tls=args["tls"], journal=args["journal"])
        release = identify(app, artifact, [vassal_text, site_text], secrets, cache)
        files = {entry["sha256"]: entry["path"] for entries in artifact["wheels"].values() for entry in entries}
        files |= {artifact["tree"]["sha256"]: artifact["tree"]["path"]} if artifact["tree"] else {}
        manifest = {key: value for key, value in artifact.items() if key != "sbom"} | {
            "id": release,
            "settings": {name: app[name] for name in SETTINGS},
            "secrets": {key: fingerprint(app["name"], {key: value})[:4] for key, value in secrets.items()},
        }
        env = {
            **app["env"],
            "APP_NAME": app["name"],
            "APP_PROFILE": app["profile"],
            "APP_RELEASE": release,
            "APP_COMMIT": artifact["commit"] or "",
            "APP_DATA_DIR": f"/srv/apps/{app['name']}/data",
            "APP_CONFIG_FILE": f"/srv/apps/{app['name']}/releases/{release}/config.yml",
            "APP_SECRETS_DIR": f"/srv/apps/{app['name']}/releases/{release}/secrets",
        }
        return {
            "app": app["name"],
            "id": release,
            "server_name": app["server_names"][0],
            "manifest": manifest,
            "parts": {
                "vassal": vassal_text,
                "site": site_text,
                "config": yaml.safe_dump(app["config"], sort_keys=True, allow_unicode=True),
                "env": env,
                "sbom": Path(artifact["sbom"]).read_text(encoding="utf-8"),
            },
            "files": files,
            "commands": app["commands"],
            "options": app["release"],
            "batches": batches(args["hosts"], app["release"]["batches"]),
        }
