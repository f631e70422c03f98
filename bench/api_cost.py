"""What the reference API costs: CPU time per request compared with bare Flask, time to the first answer, time of a scrape.

Run from the repository's root with the app's Python: `app/.venv/bin/python bench/api_cost.py [ROUNDS]`. Both applications run in one
uWSGI worker each, are asked over their unix sockets in the uwsgi protocol as NGINX does, in turns within one run, so that a
noisy machine is noisy for both. CPU time is that of the worker, from /proc; waiting does not count.

`bench/api_cost.py ROUNDS CHECKOUT` compares this API with that of another checkout instead: `git worktree add ../before COMMIT`.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BATCH = 400

# The same views twice: bare Flask, and typed in our factory with metrics in files, request id, logs, security headers.
BARE = """
from flask import Flask, jsonify, request

app = Flask("bare")


@app.get("/things/<int:number>")
def read(number):
    return jsonify(number=number, name="thing", tags=["a", "b"], quantity=3)


@app.post("/things")
def create():
    body = request.get_json()
    return jsonify(number=1, name=body["name"], tags=body["tags"], quantity=body["quantity"]), 201
"""

TYPED = '''
import os

from api import factory
from api.config import load
from api.model import Integer, Model
from api.typed import Routes

routes = Routes("things", prefix="/things")


class Content(Model):
    name: str
    tags: list[str]
    quantity: Integer


class Thing(Content):
    number: int


@routes.get("/<int:number>")
def read(number: int) -> Thing:
    """Read."""
    return Thing(number=number, name="thing", tags=["a", "b"], quantity=3)


@routes.post("")
def create(body: Content) -> Thing:
    """Create."""
    return Thing(number=1, name=body.name, tags=body.tags, quantity=body.quantity)


factory.ROUTES += (routes,)
app = factory.create_app(load(os.environ))
'''

BODY = json.dumps({"name": "thing", "tags": ["a", "b"], "quantity": 3}).encode()


class Worker:
    """An application in one uWSGI worker."""

    def __init__(self, directory: Path, name: str, source: str, environ: dict[str, str]) -> None:
        module = directory / f"{name}.py"
        module.write_text(source)
        self.socket = str(directory / f"{name}.sock")
        self.log = directory / f"{name}.log"
        options = [
            "--master",
            "--single-interpreter",
            "--need-app",
            "--disable-logging",
            "--enable-threads",
            "--threads=2",
        ]
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    f"{sys.prefix}/bin/uwsgi",
                    *options,
                    f"--socket={self.socket}",
                    f"--wsgi-file={module}",
                    "--callable=app",
                ],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]} | environ,
            )

    def ask(self, method: str, path: str, body: bytes = b"", **more: str) -> bytes:
        """One request, one connection."""
        variables = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "REQUEST_URI": path,
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "HTTP_HOST": "localhost",
            "HTTP_ACCEPT": "*/*",
            "HTTP_X_REQUEST_ID": "0123456789abcdef0123456789abcdef",
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "CONTENT_TYPE": "application/json" if body else "",
        } | more
        packet = b"".join(
            len(part).to_bytes(2, "little") + part for pair in variables.items() for part in (s.encode() for s in pair)
        )
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket)
            connection.sendall(b"\0" + len(packet).to_bytes(2, "little") + b"\0" + packet + body)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def wait(self) -> float:
        """Seconds from the start of the process to its first answer."""
        while True:
            try:
                if self.ask("GET", "/health/live" if "typed" in self.socket else "/things/1"):
                    return time.perf_counter() - self.started
            except OSError:
                time.sleep(0.005)
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())

    def worker(self) -> int:
        """Process id of the worker."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def cost(self, method: str, path: str, body: bytes = b"") -> float:
        """CPU microseconds per request over one batch."""
        threads = [Path(entry, "schedstat") for entry in Path(f"/proc/{self.worker()}/task").iterdir()]
        before = sum(int(thread.read_text().split()[0]) for thread in threads)
        for _ in range(BATCH):
            self.ask(method, path, body)
        return (sum(int(thread.read_text().split()[0]) for thread in threads) - before) / BATCH / 1000

    def stop(self) -> None:
        """End it at once, workers too: SIGINT is what uWSGI takes for that."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def compare(bare: Worker, typed: Worker, rounds: int) -> None:
    for name, method, path, body, limit in (
        ("GET", "GET", "/things/7", b"", 1.15),
        ("POST", "POST", "/things", BODY, 1.35),
    ):
        if bare.ask(method, path, body)[:12] != typed.ask(method, path, body)[:12]:
            raise SystemExit("the two do not answer alike")
        pairs = in_turns(bare, typed, rounds, method, path, body)
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"| typed {name} | {statistics.median(a for a, _ in pairs):.0f} | {statistics.median(b for _, b in pairs):.0f} "
            f"| **{statistics.median(ratios):.2f}** | {ratios[0]:.2f}-{ratios[-1]:.2f} | {limit} |"
        )


def against(checkout: Path, rounds: int) -> None:
    """The API's own routes on SQLite with ten items, next to those of another checkout."""
    source = "from api.wsgi import app\n"
    with tempfile.TemporaryDirectory() as name:
        workers = []
        for side, tree in (("theirs", checkout), ("ours", ROOT)):
            directory = Path(name, side)
            (directory / "metrics").mkdir(parents=True)
            environ = {"APP_PROFILE": "prod", "APP_DATA_DIR": str(directory / "data"), "PYTHONPATH": f"{tree}/app/src"}
            subprocess.run([sys.executable, "-m", "api.migrate"], env=environ, check=True, stderr=subprocess.DEVNULL)
            counted = environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")}
            workers.append(Worker(directory, "typed", source, counted))
        try:
            for worker in workers:
                worker.wait()
                for number in range(10):
                    worker.ask("POST", "/items", json.dumps({"name": f"n{number}", "kind": "tool"}).encode())
            print(f"| CPU µs per request, median of {rounds} x {BATCH} | theirs | ours | ratio | spread |")
            print("|---|---|---|---|---|")
            for path in ("/version", "/health/live", "/items", "/nowhere"):
                pairs = in_turns(*workers, rounds, "GET", path)
                ratios = sorted(b / a for a, b in pairs)
                print(
                    f"| GET {path} | {statistics.median(a for a, _ in pairs):.0f} | {statistics.median(b for _, b in pairs):.0f} "
                    f"| **{statistics.median(ratios):.2f}** | {ratios[0]:.2f}-{ratios[-1]:.2f} |"
                )
        finally:
            for worker in workers:
                worker.stop()


def in_turns(
    first: Worker, second: Worker, rounds: int, method: str, path: str, body: bytes = b""
) -> list[tuple[float, float]]:
    """What a request costs each of the two, round by round; who begins, changes."""
    pairs = []
    for turn in range(rounds + 1):
        order = (first, second) if turn % 2 else (second, first)
        found = {id(app): app.cost(method, path, body) for app in order}
        if turn:  # the first round warms up
            pairs.append((found[id(first)], found[id(second)]))
    return pairs


def first_answer(directory: Path, environ: dict[str, str]) -> None:
    walls, cpus = [], []
    for turn in range(5):
        before = os.times()
        worker = Worker(directory, f"typed{turn}", "from api.wsgi import app\n", environ)
        walls.append(worker.wait())
        worker.stop()
        after = os.times()
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
    print(
        f"\nStart to first answer on SQLite, best and median of 5: {min(walls):.2f} and {statistics.median(walls):.2f} s, "
        f"of them CPU {min(cpus):.2f} and {statistics.median(cpus):.2f} s (at most 1 s on an idle machine; load now {os.getloadavg()[0]:.1f})"
    )


SCRAPE = """
import os, statistics, sys, time, types
uwsgi = types.ModuleType("uwsgi")
sys.modules["uwsgi"] = uwsgi
uwsgi.worker_id = lambda: 0
from api import metrics
ROUTES = [f"/resource{n}" for n in range(12)]

def lives(worker):
    if os.fork() == 0:
        uwsgi.worker_id = lambda: worker
        for route in ROUTES:
            for status in ("200", "404", "422"):
                metrics.observe("GET", route, status, 0.01)
        os._exit(0)
    os.wait()

def scrape():
    times = []
    for _ in range(9):
        started = time.process_time()
        size = len(metrics.text())
        times.append((time.process_time() - started) * 1000)
    return statistics.median(times), size

for worker in range(1, 9):
    lives(worker)
before, size = scrape()
for turn in range(200):
    lives(turn % 8 + 1)
after, size_after = scrape()
print(f"Scrape of 8 workers (CPU), {len(ROUTES) * 3} combinations of labels: {before:.1f} ms, after 200 recycles {after:.1f} ms "
      f"({len(os.listdir(os.environ['PROMETHEUS_MULTIPROC_DIR']))} files, {size / 1024:.0f} and {size_after / 1024:.0f} KiB; at most 30 ms)")
"""


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for inner in ("metrics", "scrape", "data"):
            (directory / inner).mkdir()
        environ = {"APP_PROFILE": "prod", "APP_DATA_DIR": str(directory / "data")}
        subprocess.run([sys.executable, "-m", "api.migrate"], env=environ, check=True, stderr=subprocess.DEVNULL)
        counted = environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")}
        bare, typed = Worker(directory, "bare", BARE, {}), Worker(directory, "typed", TYPED, counted)
        try:
            bare.wait(), typed.wait()
            print(
                f"| CPU µs per request, median of {rounds} x {BATCH} | bare Flask | ours | ratio | spread | at most |"
            )
            print("|---|---|---|---|---|---|")
            compare(bare, typed, rounds)
        finally:
            bare.stop(), typed.stop()
        first_answer(directory, environ)
        scraped = environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory / "scrape")}
        subprocess.run([sys.executable, "-c", SCRAPE], env=scraped, check=True)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    if len(sys.argv) > 2:
        against(Path(sys.argv[2]).absolute(), rounds)
    else:
        main(rounds)
