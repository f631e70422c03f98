#!/usr/bin/python
"""Forbid releases of an app until a time, or allow them again."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.praetor.host import AppHost, write_atomically

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, now: datetime) -> datetime:
    """A time from ISO 8601 (UTC where it names no zone) or from now: +90m, +2h, +3d.

    Raises:
        ValueError: neither.
    """
    span = re.fullmatch(r"\+(\d+)([mhd])", text)
    if span:
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def main() -> None:
    """Write or remove the freeze."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "until_time": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "by": {"type": "str", "required": True},
            "thaw": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    host = AppHost(module.params["app"])
    path = host.root / "freeze.json"
    if module.params["thaw"]:
        existed = path.exists()
        if not module.check_mode:
            path.unlink(missing_ok=True)
        module.exit_json(changed=existed)
    try:
        until = moment(module.params["until_time"], datetime.now(tz=UTC))
    except ValueError:
        module.fail_json(
            msg=f"until_time={module.params['until_time']}: expected a time such as 2026-12-24T18:00 (UTC), or +90m, +2h, +3d"
        )
    if until.timestamp() <= time.time():
        module.fail_json(msg=f"until_time={module.params['until_time']}: that is over already")
    if not module.params["reason"].strip():
        module.fail_json(msg='reason is missing: say why with -e reason="..."; whoever is refused will read it')
    freeze = {"until": until.timestamp(), "reason": module.params["reason"], "by": module.params["by"]}
    if not module.check_mode:
        write_atomically(path, json.dumps(freeze) + "\n", 0o644)
    module.exit_json(changed=True, until=until.isoformat())


if __name__ == "__main__":
    main()
