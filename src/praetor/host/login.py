"""Compares who has logged in to the host for this run with who may log in after it."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any

from .layout import ReleaseError


def work(*, check: bool, groups: list[str], user: str = "") -> dict[str, Any]:
    """Refuse a rule about logins that would lock out the login which brings it: root's, or that of a user who is in none of `groups`.

    `user` is who it is where sudo does not say so. Changes nothing.

    Raises:
        ReleaseError: it would lock it out, or the host does not know who has logged in.
    """
    del check
    name = os.environ.get("SUDO_USER") or user or pwd.getpwuid(os.getuid()).pw_name
    try:
        own = groups_of(name)
    except KeyError as error:
        raise ReleaseError(f"the host does not know who has logged in: {error}") from None
    if name == "root" or not set(own) & set(groups):
        raise ReleaseError(
            f"ssh_allow_groups: found {', '.join(groups)}, expected a group of {name}, the user that Ansible logs in as "
            f"({', '.join(own)}), which must not be root: this role locks root out. Nothing was changed on this host."
        )
    return {"user": name}


def groups_of(user: str) -> list[str]:
    """Return the names of a user's groups, the primary first."""
    account = pwd.getpwnam(user)
    return [grp.getgrgid(number).gr_name for number in os.getgrouplist(user, account.pw_gid)]
