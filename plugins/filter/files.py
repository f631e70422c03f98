"""Filters that name the files of a role: their texts by their places on a host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def files_in(folder: str, place: str, pattern: str = "*") -> dict[str, str]:
    """Take the files of a folder on the controller, to be put into one on a host.

    Raises:
        AnsibleFilterError: there is none: a role that lost its files would take them off its hosts.

    """
    found = [path for path in sorted(Path(folder).glob(pattern)) if path.is_file()]
    if not found:
        raise AnsibleFilterError(f"{folder}: found no file like {pattern}")
    return {f"{place}/{path.name}": path.read_text(encoding="utf-8") for path in found}


def alerts_after(rules: Mapping[str, str], seconds: int) -> dict[str, str]:
    """Let all alerts of Prometheus' rules wait so long before they fire; as long as they say with a negative number."""
    if int(seconds) < 0:
        return dict(rules)
    return {place: re.sub(r"(?m)^(\s+for:).*$", rf"\g<1> {int(seconds)}s", text) for place, text in rules.items()}


def checked_by(places: Iterable[str], command: list[str]) -> list[list[str]]:
    """Let a program judge files before they are in place, see `validate` of text_files; nothing to judge asks nobody."""
    staged = [f"%s{place}" for place in places]
    return [[*command, *staged]] if staged else []


def target_files(jobs: Iterable[Mapping[str, Any]], place: str) -> dict[str, str]:
    """Write the targets of Prometheus' jobs, a file each."""
    return {
        f"{place}/{job['name']}.json": json.dumps(job["targets"], indent=4, sort_keys=True, default=str) for job in jobs
    }


def alertmanager_secrets(emails: Iterable[Mapping[str, Any]], webhook_urls: Iterable[str]) -> dict[str, str]:
    """Name the secrets of receivers by the files that alertmanager.yml reads them from."""
    urls = {f"webhook_url_{number}": str(url) for number, url in enumerate(webhook_urls)}
    return urls | {f"email_password_{number}": str(mail.get("password", "")) for number, mail in enumerate(emails)}


def below(names: Iterable[str], place: str) -> list[str]:
    """Name files in a folder."""
    return [f"{place}/{name}" for name in names]


def texts_below(texts: Mapping[str, str], place: str) -> dict[str, str]:
    """Texts by their path, of which each has a name in a folder."""
    return {f"{place}/{name}": text for name, text in texts.items()}


def certificate_links(pairs: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Name each certificate and its key as HAProxy finds them next to each other; a list of link and target each."""
    pairs = list(pairs)
    return [[f"{pair['name']}.pem", str(pair["certificate"])] for pair in pairs] + [
        [f"{pair['name']}.pem.key", str(pair["key"])] for pair in pairs
    ]


def allowed_lists(sites: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the files that say who is let in while a site is in maintenance."""
    return [f"allowed_{site['name']}.lst" for site in sites]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "allowed_lists": allowed_lists,
            "certificate_links": certificate_links,
            "alertmanager_secrets": alertmanager_secrets,
            "alerts_after": alerts_after,
            "below": below,
            "texts_below": texts_below,
            "checked_by": checked_by,
            "files_in": files_in,
            "target_files": target_files,
        }
