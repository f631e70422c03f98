#!/usr/bin/python
"""Certificates that an ACME authority has issued, by certbot."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from typing import Any

DOCUMENTATION = r"""
module: acme_certificates
short_description: Have certbot obtain the certificates that are missing
description:
  - Asks the authority only for sites that have no certificate of this directory, or one for other names. Renewal is certbot's own.
  - When the authority refuses, the certificates that are in use stay in use.
options:
  sites:
    description: Host names, by site.
    type: dict
    required: true
  directory_url:
    description: Directory of the authority.
    type: str
    required: true
  email:
    description: Address for the authority's messages.
    type: str
    default: ""
  root:
    description: Directory from which challenges are answered.
    type: path
    required: true
  hook:
    description: Command that certbot runs for each certificate that it got.
    type: str
    required: true
  sites_dir:
    description: Directory in which the hook installs each site's pair.
    type: path
    required: true
"""

STATE = Path("/etc/letsencrypt")


def setting(text: str, name: str) -> str:
    """Return a setting of certbot's file about a certificate."""
    found = re.search(rf"^{name} = (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def names_in(certificate: Path) -> set[str]:
    """Return the names in a certificate."""
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(re.findall(r"DNS:([^,\s]+)", done.stdout))


def why_obtain(site: str, names: list[str], wanted: dict[str, str], state: Path = STATE) -> str:
    """Say why a certificate must be asked for; empty if certbot has it and will renew it as wanted."""
    about = state / "renewal" / f"{site}.conf"
    if not about.is_file():
        return "there is none"
    text = about.read_text(encoding="utf-8")
    for name, value in wanted.items():
        if setting(text, name) != value:
            return f"{name} is {setting(text, name) or 'unset'}, not {value}"
    found = names_in(state / "live" / site / "fullchain.pem")
    if found != set(names):
        return f"it is for {', '.join(sorted(found)) or 'no name'}, not for {', '.join(sorted(names))}"
    return ""


def refusal(said: str) -> str:
    """Return what an authority has against a request, out of all that certbot says about it."""
    lines = [line.strip() for line in said.splitlines()]
    told = [line for line in lines if re.match(r"(Domain|Type|Detail|Identifier|Hint):", line)]
    if told:
        return " ".join(told)
    return " ".join([line for line in lines if line][-3:])


def obtain(site: str, names: list[str], params: dict[str, Any]) -> str:
    """Ask for a certificate; an empty string, or what went wrong."""
    account = ["--email", params["email"]] if params["email"] else ["--register-unsafely-without-email"]
    command = [
        *("certbot", "certonly", "--non-interactive", "--agree-tos", "--force-renewal"),
        *("--server", params["directory_url"], "--webroot", "--webroot-path", params["root"]),
        *("--cert-name", site, "--renew-with-new-domains", "--deploy-hook", params["hook"], *account),
        *(part for name in names for part in ("--domain", name)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        return refusal(done.stdout + done.stderr)
    return ""


def is_installed(site: str, sites: Path, state: Path = STATE) -> bool:
    """Tell whether what certbot has is what is served; certbot itself is content when its hook is not."""
    installed = sites / site / "fullchain.pem"
    return installed.is_file() and installed.read_bytes() == (state / "live" / site / "fullchain.pem").read_bytes()


def install(site: str, hook: str) -> str:
    """Run the hook once more; an empty string, or what went wrong."""
    environment = {**os.environ, "RENEWED_LINEAGE": str(STATE / "live" / site)}
    done = subprocess.run(shlex.split(hook), capture_output=True, text=True, check=False, env=environment)
    return "" if done.returncode == 0 else done.stderr.strip()


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "dict", "required": True},
            "directory_url": {"type": "str", "required": True},
            "email": {"type": "str", "default": ""},
            "root": {"type": "path", "required": True},
            "hook": {"type": "str", "required": True},
            "sites_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    sites = Path(params["sites_dir"])
    wanted = {"server": params["directory_url"], "renew_hook": params["hook"], "webroot_path": f"{params['root']},"}
    reasons = {site: why_obtain(site, names, wanted) for site, names in params["sites"].items()}
    why, wrong = [], {}
    for site, names in params["sites"].items():
        if reasons[site]:
            why.append(f"{site}: a certificate of {params['directory_url']}, because {reasons[site]}")
        elif not is_installed(site, sites):
            why.append(f"{site}: the certificate that certbot has, because another one is served")
        else:
            continue
        if module.check_mode:
            continue
        Path(params["root"]).mkdir(mode=0o755, parents=True, exist_ok=True)
        error = obtain(site, names, params) if reasons[site] else ""
        if not error and not is_installed(site, sites):
            error = install(site, params["hook"])
        if error:
            wrong[site] = error
    result = {"changed": bool(why), "why": why, "diff": {"before": "", "after": "".join(f"{line}\n" for line in why)}}
    if wrong:
        names = ", ".join(name for site in wrong for name in params["sites"][site])
        module.fail_json(
            msg=f"no certificate of {params['directory_url']} for {names}. The certificate that was in use before stays in use.",
            mistakes="".join(f"{site}: {error}\n" for site, error in wrong.items()),
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
