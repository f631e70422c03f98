"""What TLS, limits, firewall and sandbox cost: requests per second of a provisioned site beside a bare NGINX before the same app.

Run on a host that the playbooks have set up, as root: `apt-get install wrk libnss-wrapper`, then
`python3 secured_throughput.py APP SERVER_NAME [PATH] [ROUNDS]`. `wrk` keeps 16 connections open to the site as it is, with HTTPS,
and to an NGINX of its own on loopback without TLS, limits and sandbox; both hand on to the app's live slot. In turns
and within one run, so that a noisy machine is noisy for both. A refused request makes it fail: refusals are quick.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PORT, SECONDS, CONNECTIONS = 18099, 4, 16
BARE = """
daemon off; worker_processes auto; user www-data;
pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {place}/access.log;
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass unix:/srv/apps/{app}/live.sock; }}
    }}
}}
"""


def ask(url: str, name: str, hosts: Path) -> tuple[float, int]:
    """Requests per second of one turn, and how many answers were no 2xx or 3xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-H", f"Host: {name}", url]
    # The name leads to this host for wrk alone, which sends no other server name in TLS than the URL's.
    environment = os.environ | {"LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(hosts)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), int(failed[1]) if failed else 0  # type: ignore[index]


def main(app: str, name: str, path: str = "/version", rounds: str = "9") -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="bare-nginx-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "nginx.conf").write_text(BARE.format(place=place, port=PORT, app=app))
        hosts = place / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {name}\n")
        with subprocess.Popen(["nginx", "-c", str(place / "nginx.conf")]) as bare:
            time.sleep(1)
            try:
                # The port is spelled out: a minimal Debian has no /etc/services to look "https" up in.
                secured_url = f"https://{name}:443{path}"
                found: dict[str, list[float]] = {f"http://127.0.0.1:{PORT}{path}": [], secured_url: []}
                failures = dict.fromkeys(found, 0)
                for turn in range(int(rounds) + 1):
                    for url in list(found) if turn % 2 else reversed(list(found)):
                        rate, failed = ask(url, name, hosts)
                        failures[url] += failed
                        if turn:  # the first round warms up
                            found[url].append(rate)
            finally:
                bare.terminate()
    plain, secured = found.values()
    ratios = sorted(b / a for a, b in zip(plain, secured, strict=True))
    print(
        f"| requests/s, median of {rounds} x {SECONDS} s, {CONNECTIONS} connections | bare NGINX, HTTP | this site, HTTPS | ratio | spread | failed |"
    )
    print("|---|---|---|---|---|---|")
    print(
        f"| {path} | {statistics.median(plain):.0f} | {statistics.median(secured):.0f} | **{statistics.median(ratios):.2f}** "
        f"| {ratios[0]:.2f}-{ratios[-1]:.2f} | {sum(failures.values())} |"
    )
    if any(failures.values()):
        sys.exit("requests were refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
