"""Processor time of a request in several stacks that serve the same app, on a host that the playbooks have set up; bench/serving.py brings it there.

`python3 stacks.py ROUNDS SECONDS PEERS`, as root; PEERS is a directory with gunicorn and granian in it. Prints one JSON object. `stacks.py fronts`
starts NGINX alone, for bench/changes.py. `wrk` asks one
stack at a time over loopback, with 16 kept connections, as often as it answers. What a stack used is what the cgroups of its units counted meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME, APP = "api.lab.example", Path("/srv/apps/api")
WORK = Path("/run/measured")
UNITS = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
CONNECTIONS = 16
LOGS = ("systemd-journald.service", "systemd-journal-upload.service", "access-log-upload.service")
# What counts requests is a part of the stack that has it.
FIGURES = ("app-exporter.service", "prometheus-node-exporter.service", "prometheus-nginx-exporter.service")
BODY = json.dumps({"name": "thing", "tags": ["a", "b"], "quantity": 3})
POST = f"""
wrk.method = "POST"
wrk.body = '{BODY}'
wrk.headers["Content-Type"] = "application/json"
"""
REQUESTS = {
    "typed GET": "/measured/7",
    "typed POST": "/measured",
    "1 MB answer": "/measured/megabyte",
    "static file": "/static/docs.js",
}

# What a team writes: TLS, and the access log that Debian's NGINX has.
PLAIN = """
user www-data; worker_processes auto; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types; sendfile on; tcp_nopush on;
    access_log {place}/access.log combined;
    ssl_session_cache shared:plain:10m;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        ssl_certificate /etc/praetor/tls/sites/api/fullchain.pem;
        ssl_certificate_key /etc/praetor/tls/sites/api/key.pem;
        keepalive_requests 1000000;
        location /static/ {{ alias {static}/; }}
        location / {{
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass http://unix:{place}/app.sock;
        }}
    }}
}}
"""
RAW = """
import json

MEGABYTE = b"0123456789abcdef" * 65_536
THING = json.dumps({"number": 7, "name": "thing", "tags": ["a", "b"], "quantity": 3}).encode()


def application(environ, start_response):
    if environ["PATH_INFO"].endswith("megabyte"):
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(MEGABYTE)))])
        return [MEGABYTE]
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(THING)))])
    return [THING]
"""


@dataclass(frozen=True)
class Stack:
    """Something that serves the app."""

    url: str
    groups: Mapping[str, tuple[Path, ...]]  # cgroups, by the part of the stack that they are
    closes: bool = False  # each connection after its answer, which wrk calls an error


def run(*command: str) -> str:
    """What a command printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def start(unit: str, text: str) -> Path:
    """Start a unit until the next boot; its cgroup."""
    (UNITS / f"{unit}.service").write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", unit)
    return CGROUPS / "system.slice" / f"{unit}.service"


def slot() -> tuple[Path, dict[str, str], Path]:
    """The cgroup of the Emperor whose slot serves, the environment of its workers, and its release's directory."""
    name = (APP / "live.sock").readlink().stem
    [vassal] = Path("/etc/uwsgi/api").glob(f"*/{name}.ini")
    release = vassal.readlink().parent
    environ = {each.name: each.read_text() for kind in ("env", "secrets") for each in (release / kind).iterdir()}
    cgroup = CGROUPS / "apps.slice/apps-api.slice" / f"uwsgi-emperor@api-{vassal.parent.name}.service"
    return cgroup, {**environ, "PATH": f"{release}/venv/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}, release


def altered(name: str, port: int, changes: list[tuple[str, str]]) -> Path:
    """NGINX once more with its own configuration and sandbox, but for its addresses and some changes to the app's site; its cgroup."""
    place = WORK / name
    shutil.copytree("/etc/nginx", place, symlinks=False, ignore_dangling_symlinks=True)
    changes = [
        *changes,
        (r"include praetor/listen_tls.conf;", f"listen 127.0.0.1:{port} ssl;"),
        (r"include praetor/listen_plain.conf;", f"listen 127.0.0.1:{port + 1};"),
    ]
    site = place / "sites" / "api.conf"
    text = site.read_text()
    for pattern, by in changes:
        text, count = re.subn(pattern, by, text)
        if not count and not by.startswith("listen"):
            sys.exit(f"{name}: the site has nothing like {pattern}")
    site.write_text(text)
    main = (place / "nginx.conf").read_text()
    # Its own servers are for other addresses, which the first NGINX has.
    main = re.sub(r"(?m)^    server \{\n.*?^    \}", "", main, flags=re.DOTALL)
    main = re.sub(r"(?m)^pid .*;$", f"pid /var/lib/nginx/{name}.pid;", main)
    (place / "nginx.conf").write_text(main)
    sandbox = "".join(
        each.read_text()[each.read_text().index("LimitNOFILE=") :]
        for each in Path("/etc/systemd/system/nginx.service.d").glob("*.conf")
        if "LimitNOFILE=" in each.read_text()
    )
    text = f"[Service]\nType=exec\nExecStart=/usr/sbin/nginx -c {place}/nginx.conf -g 'daemon off;'\n{sandbox}"
    return start(f"measured-{name}", text)


def plain(name: str, port: int, static: Path) -> Path:
    """NGINX as a team would write it, before an app server; its cgroup."""
    place = WORK / name
    (place / "nginx.conf").write_text(PLAIN.format(place=place, port=port, name=NAME, static=static))
    command = f"/usr/sbin/nginx -c {place}/nginx.conf -g 'daemon off;'"
    return start(f"measured-{name}", f"[Service]\nType=exec\nExecStart={command}\n")


def server(name: str, command: str, environ: Mapping[str, str], chdir: Path) -> Path:
    """An app server that runs as the app's user with the environment of its slot, and figures in separate files; its cgroup."""
    place = WORK / name
    (place / "figures").mkdir(parents=True)
    lines = {**environ, "PROMETHEUS_MULTIPROC_DIR": f"{place}/figures"}
    (place / "environment").write_text("".join(f"{key}={json.dumps(value)}\n" for key, value in lines.items()))
    (place / "environment").chmod(0o600)
    run("chown", "-R", "api:www-data", str(place))
    text = f"""[Service]
User=api
Group=www-data
SupplementaryGroups=api
UMask=0007
WorkingDirectory={chdir}
EnvironmentFile={place}/environment
StandardOutput=append:{place}/output
StandardError=append:{place}/output
ExecStart={command}
"""
    return start(f"measured-{name}-app", text)


def stacks(peers: Path) -> dict[str, Stack]:
    """Start all, and say where they are reached."""
    own, environ, release = slot()
    chdir, programs = release / "src", release / "venv" / "bin"
    packages = environ | {"PYTHONPATH": str(peers)}
    static = APP / "static" / "live" / "static"
    site, logs, figures = (
        (CGROUPS / "system.slice/nginx.service",),
        tuple(CGROUPS / "system.slice" / unit for unit in LOGS),
        tuple(CGROUPS / "system.slice" / unit for unit in FIGURES),
    )
    rest = {"app": (own,), "logs": logs, "figures": figures}
    no_shipping = [(r"/var/log/nginx/api\.access\.log", "/var/log/nginx/measured-unshipped.log")]
    no_tls = [
        # The server that leads from HTTP to HTTPS.
        (r"(?s)^(# .*?\n)server \{.*?\n\}\n", r"\1"),
        (r"include praetor/listen_tls.conf;", "listen 127.0.0.1:18111;"),
        (r"ssl_certificate(_key)? [^;]*;", ""),
    ]
    (WORK / "raw.py").write_text(RAW)
    workers = "--master --processes 2 --threads 2 --enable-threads --disable-logging --single-interpreter --listen 1024"
    raw = server(
        "raw",
        f"{programs}/uwsgi {workers} --chmod-socket=660 --fastcgi-socket {WORK}/raw/app.sock --wsgi-file {WORK}/raw.py",
        environ,
        WORK,
    )
    found = {
        "this stack": Stack(f"https://{NAME}:443", {"NGINX": site, **rest}),
        "without shipped logs": Stack(
            f"https://{NAME}:18101", {"NGINX": (altered("unshipped", 18101, no_shipping),), **rest}
        ),
        "without TLS": Stack(f"http://{NAME}:18111", {"NGINX": (altered("clear", 18111, no_tls),), **rest}),
        "a raw WSGI callable behind the same NGINX": Stack(
            f"https://{NAME}:18121",
            {
                "NGINX": (
                    altered("before-raw", 18121, [(r"unix:/srv/apps/api/live.sock", f"unix:{WORK}/raw/app.sock")]),
                ),
                **rest,
                "app": (raw,),
            },
        ),
    }
    python = programs / "python"
    commands = {
        "gunicorn": f"{python} -m gunicorn -k gthread -w 2 --threads 2 -b unix:{WORK}/gunicorn/app.sock api.measured:app",
        "granian": f"{python} -m granian --interface wsgi --workers 2 --blocking-threads 2 --uds {WORK}/granian/app.sock "
        "--uds-permissions 432 api.measured:app",
    }
    for number, (name, command) in enumerate(commands.items()):
        app, port = server(name, command, packages, chdir), 18131 + 10 * number
        found[f"NGINX + {name}"] = Stack(
            f"https://{NAME}:{port}", {"NGINX": (plain(name, port, static),), "app": (app,)}
        )
    http = f"{programs}/uwsgi --http 127.0.0.1:18151 --module api.measured --callable app --static-map /static={static}"
    found["uwsgi --http"] = Stack(f"http://{NAME}:18151", {"app": (server("http", http, environ, chdir),)}, closes=True)
    return found


def wait(stack: Stack) -> None:
    """Wait until a stack answers; if it does not, say what its server said."""
    for _ in range(40):
        asked = ["curl", "-skf", "-m5", "-o/dev/null", "--resolve", f"{NAME}:{stack.url.rpartition(':')[2]}:127.0.0.1"]
        done = subprocess.run([*asked, stack.url + REQUESTS["typed GET"]], check=False)
        if not done.returncode:
            return
        time.sleep(0.5)
    said = "".join(
        f"{each}:\n{each.read_text()[-2000:]}" for each in WORK.glob("*/*") if each.name in {"output", "error.log"}
    )
    said += run("journalctl", "--no-pager", "-n20", "-u", "measured-*")
    sys.exit(f"{stack.url} does not answer\n{said}")


def used(groups: tuple[Path, ...]) -> int:
    """Microseconds of processor time that cgroups have used."""
    return sum(int((group / "cpu.stat").read_text().split()[1]) for group in groups if (group / "cpu.stat").exists())


def ask(stack: Stack, what: str, seconds: int) -> dict[str, float]:
    """One turn: microseconds a request by part of the stack, requests per second and the 99th percentile in ms."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    command += ["-s", f"{WORK}/post.lua"] if what == "typed POST" else []
    # The name leads to this host for wrk alone, which sends no other server name in TLS than the URL's.
    environment = os.environ | {"LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": f"{WORK}/hosts"}
    before = {part: used(groups) for part, groups in stack.groups.items()}
    done = subprocess.run(
        [*command, f"{stack.url}{REQUESTS[what]}"], env=environment, capture_output=True, text=True, check=True
    )
    time.sleep(2.5)  # buffers of logs are written once a second, and sent once a second
    said = done.stdout
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    if "Non-2xx" in said or (
        broken and any(int(broken[part]) for part in ((1, 3, 4) if stack.closes else (1, 2, 3, 4)))
    ):
        sys.exit(f"{stack.url}{REQUESTS[what]}: {said}")
    count = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    turn = {part: (used(groups) - before[part]) / count for part, groups in stack.groups.items()}
    per_s, p99 = count / seconds, float(slow[1]) * {"us": 0.001, "ms": 1, "s": 1000}[slow[2]]  # type: ignore[index]
    return {**turn, "all": sum(turn.values()), "requests/s": per_s, "p99 ms": p99}


def main(rounds: int, seconds: int, peers: Path) -> None:
    """Measure in turns."""
    WORK.mkdir()
    WORK.chmod(0o755)
    (WORK / "post.lua").write_text(POST)
    (WORK / "hosts").write_text(f"127.0.0.1 localhost {NAME}\n")
    try:
        every = stacks(peers)
        for each in every.values():
            wait(each)
        found: dict[str, dict[str, list[dict[str, float]]]] = {what: {name: [] for name in every} for what in REQUESTS}
        for what in REQUESTS:
            for turn in range(rounds + 1):
                for name in list(every) if turn % 2 else reversed(list(every)):
                    one = ask(every[name], what, seconds if turn else 1)
                    if turn:  # the first round warms up
                        found[what][name].append(one)
        print(json.dumps({"found": found, "load": os.getloadavg()[0]}))
    finally:
        clear()


def clear() -> None:
    """Take away what was started here."""
    units = [unit.name for unit in UNITS.glob("measured-*.service")]
    subprocess.run(["systemctl", "stop", *units], check=False)
    for unit in units:
        (UNITS / unit).unlink()
    subprocess.run(["systemctl", "daemon-reload"], check=False)
    shutil.rmtree(WORK, ignore_errors=True)


def fronts(peers: Mapping[str, int]) -> None:
    """Start NGINX before app servers that others bring: name and port of each."""
    clear()
    for name, port in peers.items():
        (WORK / name).mkdir(parents=True)
        plain(name, port, APP / "static" / "live" / "static")
    run("chown", "-R", "api:www-data", str(WORK))


if __name__ == "__main__":
    if sys.argv[1] == "fronts":
        fronts({name: int(port) for name, _, port in (each.partition(":") for each in sys.argv[2:])})
    elif sys.argv[1] == "clear":
        clear()
    else:
        main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
