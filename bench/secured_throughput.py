"""What TLS, limits, firewall and sandbox cost: requests per second of a provisioned site compared with a bare NGINX before the same app.

Run on a host that the playbooks have set up, as root: `apt-get install wrk libnss-wrapper`, then
`python3 secured_throughput.py APP SERVER_NAME [PATH] [ROUNDS]`. `wrk` keeps 16 connections open to a separate NGINX on loopback
without TLS, limits and sandbox, which logs into a file; and to the site as it is, with HTTPS. All hand on to the app's live slot. In turns and within one run, so that a noisy machine is
noisy for all. A refused request makes it fail: refusals are quick.
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
SERVER = """
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        access_log {place}/access.log;
        location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass unix:/srv/apps/{app}/live.sock; }}
    }}
"""
BARE = """
daemon off; worker_processes auto; user www-data;
pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{ {servers} }}
"""


def ask(url: str, name: str, hosts: Path) -> tuple[float, int]:
    """Requests per second of one turn, and how many answers were no 2xx or 3xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-H", f"Host: {name}", url]
    # The name leads to this host for wrk alone, which sends no other server name in TLS than the URL's.
    environment = os.environ | {"LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(hosts)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), int(failed[1]) if failed else 0  # type: ignore[index]


def configuration(place: Path, app: str) -> str:
    """A server that logs into a file."""
    return BARE.format(place=place, servers=SERVER.format(port=PORT, place=place, app=app))


def main(app: str, name: str, path: str = "/version", rounds: str = "9") -> None:
    """Print the table."""
    urls = {
        "bare NGINX, HTTP": f"http://127.0.0.1:{PORT}{path}",
        # The port is spelled out: a minimal Debian has no /etc/services to look "https" up in.
        "this site, HTTPS": f"https://{name}:443{path}",
    }
    rates: dict[str, list[float]] = {what: [] for what in urls}
    refused = dict.fromkeys(urls, 0)
    with tempfile.TemporaryDirectory(prefix="bare-nginx-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "nginx.conf").write_text(configuration(place, app))
        (place / "hosts").write_text(f"127.0.0.1 localhost {name}\n")
        with subprocess.Popen(["nginx", "-c", str(place / "nginx.conf")]) as bare:
            time.sleep(1)
            try:
                for turn in range(int(rounds) + 1):
                    for what in list(urls) if turn % 2 else reversed(list(urls)):
                        rate, failed = ask(urls[what], name, place / "hosts")
                        refused[what] += failed
                        rates[what] += [rate] if turn else []  # the first round warms up
            finally:
                bare.terminate()
    print(
        f"| {path}, {CONNECTIONS} connections | requests/s, median of {rounds} x {SECONDS} s | share of the one above | spread | refused |"
    )
    print("|---|---|---|---|---|")
    above = rates["bare NGINX, HTTP"]
    for what, found in rates.items():
        ratios = sorted(b / a for a, b in zip(above, found, strict=True))
        print(
            f"| {what} | {statistics.median(found):.0f} | **{statistics.median(ratios):.2f}** | {ratios[0]:.2f}-{ratios[-1]:.2f} | {refused[what]} |"
        )
        above = found
    if any(refused.values()):
        sys.exit("requests were refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
