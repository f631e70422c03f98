"""Builds the releases of a run on the controller; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from praetor.build.artifacts import build
from praetor.build.cache import place
from praetor.build.manifest import (
    files_of,
    fingerprint,
    identify,
    recorded,
    sbom_of,
    settings_of,
    with_data_dir,
)
from praetor.build.parts import ROLES, site, slot, units, vassal
from praetor.build.systems import SYSTEMS, WITHOUT_HOSTS, named
from praetor.host.layout import ReleaseError
from praetor.run.notices import event_of, given, run_hooks
from praetor.run.on_controller import ControllerAction
from praetor.run.owner import start
from praetor.run.plan import target

if TYPE_CHECKING:
    from praetor.documents import Artifact, Copy, Entry, Manifest, Release, Rendered, Travel

SERVER = ROLES / "uwsgi_emperor/files/requirements.txt"  # locked requirements with pyuwsgi


class ActionModule(ControllerAction):
    """Returns `releases`: for each app its id, manifest, rendered parts and the places of its files on the controller; `run`: who runs this.

    And `told`: for each app how to release what was built. The inventory's hooks run before and after, unless nothing is built.

    Arguments: `apps`, `secrets` and `root` as check_inventory returned them; whether sites speak `tls`; `cache`, a directory; `hosts` of the run; `action` and `why`; `only`,
    the one app to release; `release`, the id of one built before; `commit` of a source that has no history here; `pythons`, those of the hosts as versions or
    tags of systems (none: those of all x86-64 hosts); `upgrade`, whether to resolve requirements again; `copies`, releases as app_copy returned them: those
    apps are not built.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Build each app, or take what was built before."""
        secrets = {app: {key: str(value) for key, value in found.items()} for app, found in args["secrets"].items()}
        # Plain strings and numbers, without Ansible's notes on where they come from.
        args = json.loads(json.dumps({key: value for key, value in args.items() if key != "secrets"}))
        apps = [app for app in args["apps"] if args.get("only") in (None, "", app["name"])]
        if not apps:
            known = ", ".join(app["name"] for app in args["apps"])
            raise ReleaseError(f"app={args['only']}: no such app; the inventory has: {known}")
        releases, problems = [], []
        copies: dict[str, Copy] = {each["app"]: each for each in args.get("copies") or []}
        builds = not args.get("release") and any(app["name"] not in copies for app in apps)
        if builds and (problem := self._hook("before_build", args)):
            first, _, more = problem.partition("\n")
            raise ReleaseError(f"{first}. No host was changed.\n{more}".strip())
        for app in apps:
            if app["name"] in copies:
                releases.append(_copied(app, copies[app["name"]], args))
                continue
            try:
                releases.append(_release(app, secrets.get(app["name"], {}), args, _tags(args.get("pythons"))))
            except ReleaseError as error:
                problems.append(f"{app['name']}: {error}")
        if problems:
            built = ", ".join(release["id"] for release in releases)
            also = f"\nBuilt, and not released: {built}." if built else ""
            raise ReleaseError("\n".join(problems) + f"{also}\nNothing was changed on any host.")
        problem = self._hook("after_build", args) if builds else ""
        return {
            "warnings": [f"{problem}. The run goes on."] if problem else [],
            "releases": releases,
            "run": start(args["action"], args.get("why") or ""),
            "told": [
                told(each["manifest"], _tags(args.get("pythons")), known=bool(args.get("pythons"))) for each in releases
            ],
        }

    def _hook(self, name: str, args: Mapping[str, Any]) -> str:
        """Run the inventory's commands of this hook; return what went wrong, empty for nothing."""
        notices = given(self._templar.template, self.variables)
        commands = getattr(notices.release_hooks, name) if notices else []
        if not commands:
            return ""
        names = args.get("only") or " ".join(app["name"] for app in args["apps"])
        return run_hooks(name, commands, event_of({**args, "app": names}, self.variables), Path(args["root"]))


def told(manifest: Manifest, asked: Sequence[str] = (), *, known: bool) -> str:
    """What `build.yml` says of a release, `known` being whether somebody named the Pythons of its hosts, `asked` the tags of those."""
    app, release, versions = manifest["app"], manifest["id"], [SYSTEMS[tag].name for tag in manifest["python"]]
    said = f"{app} {release}: release it with -e app={app} -e release={release}"
    if without := [tag for tag in asked if tag not in manifest["python"]]:
        said += f" (not for Python {named(without)}, which requires-python in its pyproject.toml excludes)"
    if known or len(versions) == 1:
        return said
    # Pipelines (docs/ci) read the id from this line: it stands there once, and a space ends it.
    return (
        f"{said} (it is for Python {' and '.join(versions)}; release.yml alone builds for the Pythons of its hosts only: "
        f"for hosts that all have one of these, the same tree is a release of another id, which -e pythons={versions[-1]} makes here too)"
    )


def _release(app: Entry, secrets: dict[str, str], args: Mapping[str, Any], tags: list[str]) -> Release:
    cache = place(args["cache"])
    artifact = _artifact(app, args, tags, cache)
    unnamed = _rendered(app, args)
    texts = [unnamed["vassal"], unnamed["site"], *unnamed["units"].values(), *slot().values()]
    release = identify(app, artifact, texts, secrets, cache)
    linked = artifact.get("packages", {})
    manifest: Manifest = {
        **artifact,
        "id": release,
        "settings": settings_of(app),
        "secrets": {key: fingerprint(app["name"], {key: value})[:4] for key, value in secrets.items()},
        # Those that the entry names, and those that hold what was compiled here is linked with.
        "packages": {tag: sorted({*app["packages"], *linked[tag]}) for tag in linked},
    }
    return {
        **_how(app, release, args["hosts"]),
        "manifest": manifest,
        "parts": {
            **_rendered(app, args, release),
            "slot": slot(),
            "config": yaml.safe_dump(with_data_dir(app["config"], app["name"]), sort_keys=True, allow_unicode=True),
            "env": _environment(app, manifest),
            "sbom": sbom_of(artifact, cache).read_text(encoding="utf-8"),
        },
        "files": {sha256: str(path) for sha256, path in files_of(artifact, cache).items()},
    }


def _artifact(app: Entry, args: Mapping[str, Any], tags: list[str], cache: Path) -> Artifact:
    """What was built before, or is built now."""
    if args.get("release"):
        return recorded(cache, app["name"], args["release"])
    artifact = build(app, cache, Path(args["root"]), SERVER, tags, upgrade=bool(args.get("upgrade")))
    artifact["commit"] = artifact["commit"] or args.get("commit") or None
    return artifact


def _rendered(app: Entry, args: Mapping[str, Any], release: str = "") -> Rendered:
    """The files that templates make of an entry; what a release's id is made of is rendered without it."""
    return {
        "vassal": vassal(app),
        "site": site(app, tls=args["tls"], release=release),
        "units": units(with_data_dir(app, app["name"]), release),
    }


def _environment(app: Entry, manifest: Manifest) -> dict[str, str]:
    """What programs of a release find in their environment."""
    place_of_app = f"/srv/apps/{app['name']}"
    return {
        **with_data_dir(app["env"], app["name"]),
        "APP_NAME": app["name"],
        "APP_PROFILE": app["profile"],
        "APP_RELEASE": manifest["id"],
        "APP_COMMIT": manifest["commit"] or "",
        "APP_DATA_DIR": f"{place_of_app}/data",
        "APP_CONFIG_FILE": f"{place_of_app}/releases/{manifest['id']}/config.yml",
        "APP_SECRETS_DIR": f"{place_of_app}/releases/{manifest['id']}/secrets",
    }


def _copied(app: Entry, copy: Copy, args: Mapping[str, Any]) -> Release:
    """A release that other hosts serve: they have migrated what is not each host's own."""
    found = _how(app, copy["manifest"]["id"], args["hosts"])
    if found["commands"]["migrate_on"] == "once":
        found["commands"] = {**found["commands"], "migrate": []}
    return {**found, "manifest": copy["manifest"], "parts": copy["parts"], "files": copy["files"]}


def _how(app: Entry, release: str, hosts: list[str]) -> Travel:
    """How a release of an app goes to hosts, which is no part of it."""
    return {
        **target(app, release, hosts),
        "commands": with_data_dir(app["commands"], app["name"]),
        "migrate_hosts": hosts if app["commands"]["migrate_on"] == "each" else hosts[:1],
    }


def _tags(asked: Any) -> list[str]:
    """The tags of systems: those of the hosts, or those that an operator names; when nobody says, the Pythons that x86-64 hosts may have.

    Raises:
        ReleaseError: a system that is not supported.
    """
    words = asked.replace(",", " ").split() if isinstance(asked, str) else list(asked or [])
    versions = {system.name: tag for tag, system in SYSTEMS.items()}
    unknown = [word for word in words if word not in SYSTEMS and word not in versions]
    if unknown:
        raise ReleaseError(
            f"pythons={' '.join(unknown)}: expected some of {' '.join(versions)}, which supported hosts have"
        )
    found = {versions.get(word, word) for word in words}
    return [tag for tag in SYSTEMS if tag in (found or WITHOUT_HOSTS)]
