"""Downloads by clients on slow lines, over HTTP/1.1 and HTTP/2: curl stops reading when nobody takes what it prints."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

PIECE = 2**20


@dataclass(frozen=True)
class Line:
    """How one client takes an answer: slowly for some seconds, or not at all; then at 10 MB/s at most."""

    version: str  # of HTTP: 1.1 or 2
    bytes_s: int  # 0: it pauses
    slow_s: float

    def __str__(self) -> str:
        """The client in words."""
        return (
            f"HTTP/{self.version}, {f'{self.bytes_s} bytes/s' if self.bytes_s else 'a pause'} for {self.slow_s:.0f} s"
        )

    def take(self, address: str, name: str, authority: str, path: str, right: bytes) -> str:
        """Download; what is wrong with what came, or nothing."""
        command = ["curl", "--silent", "--show-error", "--fail", f"--http{self.version}", "--cacert", authority]
        command += ["--resolve", f"{name}:443:{address}", f"https://{name}{path}"]
        taken, began = 0, time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            assert curl.stderr is not None
            while True:
                left_s = max(began + self.slow_s - time.monotonic(), 0)
                piece = curl.stdout.read(self.bytes_s // 5 or 1 if left_s else PIECE)
                if not piece:
                    break
                if piece != right[taken : taken + len(piece)]:
                    curl.terminate()
                    return f"{self}: wrong bytes after {taken}"
                taken += len(piece)
                # At the end neither as fast as this machine can, which is the hosts' too.
                time.sleep(0.1 if not left_s else min(left_s, 0.2) if self.bytes_s else left_s)
            said = curl.stderr.read().decode()
        if curl.returncode or taken != len(right):
            return f"{self}: {taken} of {len(right)} bytes, exit status {curl.returncode} {said}"
        return ""


def lines(slow_s: float) -> list[Line]:
    """20 kB/s, 100 kB/s and a pause, over each version of HTTP."""
    return [Line(version, bytes_s, slow_s) for version in ("1.1", "2") for bytes_s in (20_000, 100_000, 0)]
