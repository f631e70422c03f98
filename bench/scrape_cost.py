"""What a scrape of app_exporter costs: 4 applications with 8 workers each, idle, under load, and with a stats server that hangs.

Run from the repository's root: `.venv/bin/python bench/scrape_cost.py [ROUNDS]`. The applications are files and sockets made here: each
worker has the metrics of 50 routes as prometheus_client writes them, and an access log. The exporter is the real one, in a separate
process on the same Python; time is what Prometheus waits for, CPU is the exporter's, both per scrape.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS, WORKERS, ROUTES = 4, 8, 50
WRITE = """
import sys
from prometheus_client import Counter, Histogram, values
values.ValueClass = values.MultiProcessValue(lambda: sys.argv[1])
requests = Counter("app_requests", "Requests.", ["route", "status"])
seconds = Histogram("app_request_seconds", "Time.", ["route"])
for route in range(%d):
    for status in ("200", "404"):
        requests.labels(f"/route/{route}", status).inc()
    seconds.labels(f"/route/{route}").observe(0.01)
"""
LINE = (
    '{"ts":1.000,"request_id":"0123456789abcdef0123456789abcdef","method":"GET","uri":"/v1/items?limit=20","status":200,'
    '"request_time_s":0.0%02d,"upstream_time_s":"0.0%02d","upstream_connect_time_s":"0.000","upstream_status":"200","bytes":1200,'
    '"request_bytes":310,"client":"192.0.2.1","host":"api.example.org","scheme":"https","protocol":"HTTP/2.0","user_agent":"curl/8"}\n'
)


def worker(number: int) -> dict[str, object]:
    core = {"id": 0, "requests": 7, "write_errors": 0, "read_errors": 0, "in_request": 1, "vars": [], "req_info": {}}
    times = {"running_time": 1500000, "last_spawn": 1795362659, "respawn_count": 1, "avg_rt": 2500, "tx": 4096}
    counts = {"requests": 7, "exceptions": 0, "harakiri_count": 0, "rss": 1 << 20, "status": "busy"}
    return {"id": number, "pid": number, "accepting": 1, **counts, **times, "cores": [core] * 4}


class Host:
    """Directories of a host with its applications."""

    def __init__(self, root: Path) -> None:
        self.run, self.apps, self.logs = (root / name for name in ("run", "apps", "logs"))
        self.logs.mkdir()
        self.hang = False
        self.open: list[socket.socket] = []
        for number in range(APPS):
            self.make(f"app{number}")

    def make(self, app: str) -> None:
        """Make an application with one slot."""
        slot = f"{app}.1.0.0-0123abcd.1"
        metrics = self.run / app / f"{slot}.metrics"
        metrics.mkdir(parents=True)
        (self.apps / app / "releases" / "1.0.0-0123abcd").mkdir(parents=True)
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        for number in range(1, WORKERS + 1):
            subprocess.run([sys.executable, "-c", WRITE % ROUTES, f"w{number}"], check=True, env=environment)
        entry = {
            "ts": "2026-11-22T16:09:29Z",
            "action": "release",
            "to": "1",
            "result": "ok",
            "by": "a@b",
            "duration_s": 9,
        }
        (self.apps / app / "history.jsonl").write_text((json.dumps(entry) + "\n") * 500)
        (self.logs / f"{app}.access.log").write_text("")
        answer = json.dumps(
            {"version": "2.0.30", "load": 0, "workers": [worker(n + 1) for n in range(WORKERS)]}
        ).encode()
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(self.run / app / f"{slot}.stats"))
        server.listen(8)
        (self.apps / app / "live.sock").symlink_to(self.run / app / f"{slot}.sock")
        threading.Thread(target=self.answer, args=(server, answer, app), daemon=True).start()

    def answer(self, server: socket.socket, answer: bytes, app: str) -> None:
        """Answer as a stats server does, or never."""
        while True:
            connection, _ = server.accept()
            if self.hang and app == "app0":
                self.open.append(connection)
                continue
            connection.sendall(answer)
            connection.close()

    def serve_requests(self, seconds: float, rate: int) -> None:
        """Log as many requests per second and application as `rate`, for so long."""
        chunk = "".join(LINE % (n % 60, n % 60) for n in range(rate // 10))
        for _ in range(int(seconds * 10)):
            for number in range(APPS):
                with (self.logs / f"app{number}.access.log").open("a") as log:
                    log.write(chunk)
            time.sleep(0.1)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


PORT = free_port()


def scrape() -> tuple[float, int]:
    started = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
        body = answer.read()
    return (time.perf_counter() - started) * 1000, body.count(b"\n")


def measure(name: str, pid: int, rounds: int, host: Host, rate: int = 0) -> None:
    times, used, lines = [], 0.0, 0
    for _ in range(rounds):
        if rate:
            host.serve_requests(1.0, rate)
        before = cpu(pid)
        took, lines = scrape()
        used += cpu(pid) - before
        times.append(took)
    quantiles = sorted(times)
    median, most = statistics.median(quantiles), quantiles[-1]
    print(f"{name:<44} {lines:>7} {median:>9.1f} {most:>9.1f} {used / rounds * 1000:>9.1f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory(prefix="b-") as place:
        host = Host(Path(place))
        directories = [f"--{name}-directory={Path(place) / name}" for name in ("run", "apps", "logs")]
        command = [sys.executable, "-m", "app_exporter", f"--listen=127.0.0.1:{PORT}", *directories]
        with subprocess.Popen(command, cwd=ROOT / "src", stderr=subprocess.DEVNULL) as exporter:
            time.sleep(1)
            scrape()  # the first one parses keys
            print(f"{APPS} applications x {WORKERS} workers x {ROUTES} routes, {rounds} scrapes each")
            print(f"{'':<44} {'lines':>7} {'median ms':>9} {'most ms':>9} {'CPU ms':>9}")
            measure("idle", exporter.pid, rounds, host)
            measure("1,000 requests/s on each application", exporter.pid, max(rounds // 3, 3), host, rate=1000)
            host.hang = True
            measure("one stats server never answers (limit 500 ms)", exporter.pid, max(rounds // 6, 3), host)
            exporter.terminate()


if __name__ == "__main__":
    main()
