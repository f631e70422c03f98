#!/usr/bin/python
"""Look at apps on a host without changing anything."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.praetor.host import AppHost
from ansible.module_utils.praetor.journal import history
from ansible.module_utils.praetor.survey import health, survey


def main() -> None:
    """Survey each app; `wanted` maps names to the manifests of releases that are about to be made live."""
    module = AnsibleModule(
        argument_spec={
            "apps": {"type": "dict", "required": True},  # name: its first server name
            "wanted": {"type": "dict", "default": {}},
            "probe": {"type": "bool", "default": False},
            "history": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    found: dict[str, Any] = {}
    for name, server_name in module.params["apps"].items():
        host = AppHost(name)
        found[name] = survey(host, module.params["wanted"].get(name))
        if module.params["probe"]:
            found[name] |= health(host, server_name)
        if module.params["history"]:
            found[name]["history"] = history(host)[-module.params["history"] :]
    others = sorted(
        path.parent.name for path in AppHost("x").layout.apps.glob("*/releases") if path.parent.name not in found
    )
    module.exit_json(changed=False, apps=found, others=others)


if __name__ == "__main__":
    main()
