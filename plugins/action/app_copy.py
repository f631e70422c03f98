"""Copies a release off a host that serves it, so that others can get the same."""

from __future__ import annotations

import base64
from typing import Any

from praetor.build.cache import place
from praetor.build.manifest import files_of
from praetor.host.stage import files_of as files_for
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Returns `app`, `manifest`, `parts`, `secrets`, and `files`, places in `cache` by SHA-256; what the cache does not have for the Pythons of `tags` is fetched."""

    _supports_check_mode = True
    WORK = "copies"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "release": {"type": "str", "required": True},
        "tags": {"type": "list", "elements": "str", "required": True},
        "cache": {"type": "str", "required": True},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Copy."""
        cache, tags = place(args.pop("cache")), args.pop("tags")
        answer = super().do({**args, "file": ""})
        if answer.get("failed"):
            return answer
        manifest = answer["manifest"]
        files = files_of(manifest, cache)
        for entry in [entry for tag in tags if tag in manifest["wheels"] for entry in files_for(manifest, tag)]:
            path = files[entry["sha256"]]
            if path.is_file():
                continue
            content = super().do({**args, "file": entry["sha256"]}).get("content")
            if content is None:
                msg = (
                    f"{args['release']}: {entry['file']} is neither in this controller's cache nor on a host that serves it. "
                    "Run this on the controller that released it, or release to all hosts: without --limit. Nothing was changed."
                )
                return {"failed": True, "msg": msg}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
        places = {sha256: str(path) for sha256, path in files.items()}
        return {**answer, "app": args["app"], "files": places, "_ansible_no_log": bool(answer["secrets"])}
