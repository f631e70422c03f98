"""A playbook that was started as an operator would start it, and how it is waited for, stopped and killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from project import ROOT
from variants import INVENTORY, PATIENCE_S, WAIT_S

ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOLOR": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


class Run:
    """A playbook that was started."""

    def __init__(self, playbook: str, *, inventory: Path = INVENTORY, **variables: Any) -> None:
        """Start it."""
        self.log = Path(tempfile.mkstemp(prefix="run-", suffix=".log")[1])
        command = ["ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(inventory)]
        flags = variables.pop("flags", [])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *flags, "--extra-vars", json.dumps(variables)],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def must_end(self, *words: str, well: bool) -> str:
        """Wait for its end; it must be good or bad as asked, and its output must have all these words."""
        status = self.process.wait(PATIENCE_S)
        assert (status == 0) == well, f"exit status {status}\n{self.output}"
        missing = [word for word in words if word not in self.output]
        assert not missing, f"the output does not say {missing}\n{self.output}"
        return self.output

    def await_output(self, words: str) -> None:
        """Return as soon as it has printed these words."""
        deadline = time.monotonic() + WAIT_S
        while words not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"never said: {words}\n{self.output}"
            time.sleep(0.05)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let the controller do nothing meanwhile, however long that takes; what it has begun on hosts goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 the controller and all that it has started: nobody gets to clean up."""
        tree = [self.process.pid]
        for pid in tree:
            with contextlib.suppress(FileNotFoundError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    tree += map(int, (thread / "children").read_text(encoding="ascii").split())
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
