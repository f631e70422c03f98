"""What NGINX's figures per application cost: counted from the access log, or in NGINX by Lua, each against the log alone.

Run on a Debian host as root, from a copy of the repository: `apt-get install nginx libnginx-mod-http-lua wrk`, then
`python3 bench/nginx_figures.py [ROUNDS]`. A separate NGINX on loopback answers `wrk` through a second server on a unix
socket, in turns: with the JSON access log; with the log and a process that counts from it as app_exporter does; with the log and the same
counters in Lua's shared memory. The figure is CPU time of all processes but wrk per request; what matters are the ratios.
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

ROOT = Path(__file__).resolve().parent.parent
PORT, SECONDS = 18099, 4
FOLLOW = """
import sys, time
from pathlib import Path
from app_exporter.access_log import AccessLogs
logs = AccessLogs(Path(sys.argv[1]))
while True:
    logs.poll()
    time.sleep(1)
"""
LUA = """
    log_by_lua_block {
        local figures = ngx.shared.figures
        local bounds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
        local function observe(name, value)
            local at = 13
            for i = 1, 12 do
                if value <= bounds[i] then at = i break end
            end
            figures:incr(name .. at, 1, 0)
            figures:incr(name .. "sum", value, 0)
        end
        figures:incr("api" .. math.floor(ngx.status / 100), 1, 0)
        observe("apirequest", tonumber(ngx.var.request_time))
        local upstream = tonumber(ngx.var.upstream_response_time)
        if upstream then observe("apiupstream", upstream) end
        figures:incr("apisent", tonumber(ngx.var.bytes_sent), 0)
        figures:incr("apireceived", tonumber(ngx.var.request_length), 0)
    }
"""
CONFIG = """
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
daemon off; master_process on; worker_processes 1; user root;
pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    lua_shared_dict figures 1m;
    log_format site_json escape=json
        '{{"ts":$msec,"request_id":"$request_id","method":"$request_method","uri":"$request_uri","status":$status,'
        '"request_time_s":$request_time,"upstream_time_s":"$upstream_response_time","upstream_connect_time_s":"$upstream_connect_time",'
        '"upstream_status":"$upstream_status","bytes":$bytes_sent,"request_bytes":$request_length,"client":"$remote_addr",'
        '"host":"$host","scheme":"$scheme","protocol":"$server_protocol","user_agent":"$http_user_agent"}}';
    server {{ listen unix:{place}/app; location / {{ return 200 "ok"; }} }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        access_log {place}/api.access.log site_json buffer=64k flush=1s;
        {lua}
        location / {{ proxy_pass http://unix:{place}/app; }}
    }}
}}
"""


def cpu(pids: list[int]) -> float:
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def measure(*, lua: bool, follow: bool) -> float:
    """Answer as many requests as possible for some seconds; return microseconds of CPU per request."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        place = Path(name)
        (place / "nginx.conf").write_text(CONFIG.format(place=place, port=PORT, lua=LUA if lua else ""))
        started = [subprocess.Popen(["nginx", "-q", "-c", str(place / "nginx.conf")])]
        try:
            if follow:
                environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
                started.append(subprocess.Popen([sys.executable, "-c", FOLLOW, name], env=environment))
            time.sleep(1)
            pids = [pid for one in started for pid in (one.pid, *children(one.pid))]
            before = cpu(pids)
            command = ["wrk", "-t1", "-c16", f"-d{SECONDS}s", f"http://127.0.0.1:{PORT}/v1/items?limit=20"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            time.sleep(2.5)  # the last of the log is counted too
            requests = re.search(r"(\d+) requests in", said)
            return (cpu(pids) - before) / int(requests[1]) * 1e6 if requests else 0.0
        finally:
            for one in started:
                one.terminate()
                one.wait()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ways = {"access log alone": (False, False), "counted from the log": (False, True), "counted by Lua": (True, False)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (lua, follow) in ways.items():
            found[way].append(measure(lua=lua, follow=follow))
    print(f"CPU per request in microseconds, {rounds} interleaved rounds of {SECONDS} s")
    print(f"{'':<22} {'median':>7} {'least':>7} {'most':>7} {'more than the log alone':>24}")
    base = statistics.median(found["access log alone"])
    for way, times in found.items():
        median = statistics.median(times)
        more = f"{median - base:+.1f} ({median / base - 1:+.0%})" if way != "access log alone" else ""
        print(f"{way:<22} {median:>7.1f} {min(times):>7.1f} {max(times):>7.1f} {more:>24}")


if __name__ == "__main__":
    main()
