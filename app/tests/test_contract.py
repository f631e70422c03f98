"""The API under uWSGI against its own description, with every check that schemathesis has."""

import os
import re
import subprocess
import sys
from pathlib import Path

from api import migrate
from conftest import ROOT, free_port, serve

# Cases for each operation; `make app-fuzz` asks for more than there is time for in each run of the tests.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "5")


def test_api_does_what_it_says(base: dict[str, str], tmp_path: Path) -> None:
    assert migrate.main() == 0
    port = free_port()
    options = (f"--http-socket=127.0.0.1:{port}", "--processes=2", "--threads=2")
    command = [f"{sys.prefix}/bin/st", "run", f"http://127.0.0.1:{port}/openapi.json", "--checks=all"]
    with serve("uwsgi", tmp_path / "run", base, *options) as server:
        done = subprocess.run(
            [*command, f"--max-examples={EXAMPLES}", "--continue-on-failure"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stdout.write(done.stdout[-6000:])
        cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        assert done.returncode == 0, done.stdout
    assert cases is not None
    assert cases[1] == cases[2] != "0"
    assert server.stdout.read_bytes() == b""
    assert not [event for event in server.events() if event["level"] in {"error", "critical"}]
