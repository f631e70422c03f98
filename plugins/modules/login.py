"""Ansible module: who has logged in to the host for this task."""

from __future__ import annotations

import grp
import os
import pwd

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: login
short_description: Say who has logged in
description:
  - Names the user behind sudo and its groups, so that a rule about logins can be held against the very login that brings it.
options:
  user: {description: Who it is when sudo does not say so, type: str, default: ""}
"""

RETURN = r"""
user:
  description: The user's name.
  type: str
groups:
  description: Names of its groups, the primary first.
  type: list
  elements: str
"""


def groups_of(user: str) -> list[str]:
    """Return the names of a user's groups, the primary first."""
    account = pwd.getpwnam(user)
    return [grp.getgrgid(number).gr_name for number in os.getgrouplist(user, account.pw_gid)]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"user": {"type": "str", "default": ""}}, supports_check_mode=True)
    user = os.environ.get("SUDO_USER") or module.params["user"] or pwd.getpwuid(os.getuid()).pw_name
    try:
        module.exit_json(changed=False, user=user, groups=groups_of(user))
    except KeyError as error:
        module.fail_json(msg=f"the host does not know who has logged in: {error}")


if __name__ == "__main__":
    main()
