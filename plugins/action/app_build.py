"""Builds the releases of a run on the controller; contacts no host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

from praetor.build.artifacts import build
from praetor.build.cache import place
from praetor.build.manifest import (
    SETTINGS,
    files_of,
    fingerprint,
    identify,
    recorded,
    sbom_of,
    with_data_dir,
)
from praetor.build.parts import site, slot, vassal
from praetor.build.requirements import PYTHONS
from praetor.host.layout import ReleaseError
from praetor.run.batches import batches
from praetor.run.owner import start


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `releases`: for each app its id, manifest, rendered parts and the places of its files on the controller; and `run`: who runs this.

    Arguments: `apps`, `secrets` and `root` as check_apps returned them; `vassal`, the template of vassal files; `site`, that of sites, and whether
    these speak `tls` and log to the `journal` too; `server`, locked requirements with pyuwsgi; `cache`, a directory; `hosts` of the run; `action` and `why`; `only`,
    the one app to release; `release`, the id of one built before; `commit` of a source that has no history here; `pythons`, those of the hosts as versions or
    wheel tags (none: all that hosts may have); `upgrade`, whether to resolve requirements again; `copies`, releases as app_copy returned them: those
    apps are not built.
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
        releases, problems = [], []
        copies = {each["app"]: each for each in args.get("copies") or []}
        for app in apps:
            if app["name"] in copies:
                releases.append(self._copied(app, copies[app["name"]], args))
                continue
            try:
                args["tags"] = _tags(args.get("pythons"))
                releases.append(self._release(app, secrets.get(app["name"], {}), args))
            except ReleaseError as error:
                problems.append(f"{app['name']}: {error}")
        if problems:
            built = ", ".join(release["id"] for release in releases)
            also = f"\nBuilt, and not released: {built}." if built else ""
            return {**result, "failed": True, "msg": "\n".join(problems) + f"{also}\nNothing was changed on any host."}
        return {**result, "changed": False, "releases": releases, "run": start(args["action"], args.get("why") or "")}

    @staticmethod
    def _release(app: dict[str, Any], secrets: dict[str, str], args: dict[str, Any]) -> dict[str, Any]:
        cache = place(args["cache"])
        vassal_text = vassal(app, Path(args["vassal"]))
        if args.get("release"):
            artifact = recorded(cache, app["name"], args["release"])
        else:
            root, server = Path(args["root"]), Path(args["server"])
            artifact = build(app, cache, root, server, args["tags"], upgrade=bool(args.get("upgrade")))
            artifact["commit"] = artifact["commit"] or args.get("commit") or None
        site_text = site(app, Path(args["site"]), tls=args["tls"], journal=args["journal"])
        release = identify(app, artifact, [vassal_text, site_text, *slot().values()], secrets, cache)
        linked = artifact["packages"]
        manifest = artifact | {
            "id": release,
            "settings": {name: app[name] for name in SETTINGS},
            "secrets": {key: fingerprint(app["name"], {key: value})[:4] for key, value in secrets.items()},
            # Those that the entry names, and those that hold what was compiled here is linked with.
            "packages": {tag: sorted({*app["packages"], *linked[tag]}) for tag in linked},
        }
        env = {
            **with_data_dir(app["env"], app["name"]),
            "APP_NAME": app["name"],
            "APP_PROFILE": app["profile"],
            "APP_RELEASE": release,
            "APP_COMMIT": artifact["commit"] or "",
            "APP_DATA_DIR": f"/srv/apps/{app['name']}/data",
            "APP_CONFIG_FILE": f"/srv/apps/{app['name']}/releases/{release}/config.yml",
            "APP_SECRETS_DIR": f"/srv/apps/{app['name']}/releases/{release}/secrets",
        }
        return {
            **_how(app, args),
            "id": release,
            "manifest": manifest,
            "parts": {
                "vassal": vassal_text,
                "site": site_text,
                "slot": slot(),
                "config": yaml.safe_dump(with_data_dir(app["config"], app["name"]), sort_keys=True, allow_unicode=True),
                "env": env,
                "sbom": sbom_of(artifact, cache).read_text(encoding="utf-8"),
            },
            "files": {sha256: str(path) for sha256, path in files_of(artifact, cache).items()},
        }

    @staticmethod
    def _copied(app: dict[str, Any], copy: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        """A release that other hosts serve: they have migrated what is not each host's own."""
        found = _how(app, args)
        if found["commands"]["migrate_on"] == "once":
            found["commands"] = {**found["commands"], "migrate": []}
        return {**found, "id": copy["manifest"]["id"], **{key: copy[key] for key in ("manifest", "parts", "files")}}


def _how(app: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """How an app is released, which is no part of a release."""
    return {
        "app": app["name"],
        "server_name": app["server_names"][0],
        "commands": with_data_dir(app["commands"], app["name"]),
        "options": app["release"],
        "batches": batches(args["hosts"], app["release"]["batches"]),
    }


def _tags(asked: Any) -> list[str]:
    """The wheel tags of Pythons: those of the hosts, or those that an operator names; all that hosts may have when nobody says.

    Raises:
        ReleaseError: a Python that no supported host has.
    """
    words = asked.replace(",", " ").split() if isinstance(asked, str) else list(asked or [])
    versions = {version: tag for tag, version in PYTHONS.items()}
    unknown = [word for word in words if word not in PYTHONS and word not in versions]
    if unknown:
        raise ReleaseError(
            f"pythons={' '.join(unknown)}: expected some of {' '.join(versions)}, which Debian 12 and 13 have"
        )
    found = {versions.get(word, word) for word in words}
    return [tag for tag in PYTHONS if not found or tag in found]
