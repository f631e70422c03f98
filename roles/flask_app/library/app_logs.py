#!/usr/bin/python
"""Read what NGINX and an app wrote down about requests on a host, without changing anything."""

from __future__ import annotations

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.praetor.host import ReleaseError, user_of
from ansible.module_utils.praetor.requests import parse_since, read


def main() -> None:
    """Return the lines about one app since a time, or those about one request."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "since": {"type": "str", "required": True},
            "request_id": {"type": "str", "default": ""},
            "logs": {"type": "path", "default": "/var/log/nginx"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        since = parse_since(params["since"], time.time())
        uid = user_of(params["app"]).pw_uid
        entries = read(Path(params["logs"]), params["app"], uid, since, params["request_id"])
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, entries=entries)


if __name__ == "__main__":
    main()
