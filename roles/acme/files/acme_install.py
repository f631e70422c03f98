# Managed by Ansible: roles/acme. Changes here are overwritten.
"""certbot runs this for each certificate that it got: the pair takes the old one's place and the web server is told.

    RENEWED_LINEAGE=/etc/letsencrypt/live/SITE python3 acme_install SITES_DIRECTORY UNIT | COMMAND ARGUMENT...

Where the unit refuses to reload, or the command fails, the old pair comes back, so that a later start does not fail for it.
"""

import os
import subprocess
import sys
from pathlib import Path

FILES = {"fullchain.pem": 0o644, "key.pem": 0o600}


def install(place: Path, texts: dict[str, str]) -> dict[str, str]:
    """Put files in their place, all on the disk before the first takes its place; returns what was there."""
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = {name: (place / name).read_text() for name in FILES if (place / name).exists()}
    for name, text in texts.items():
        new = place / f".{name}.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILES[name]), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    for name in texts:
        (place / f".{name}.new").replace(place / name)
    return before


def main() -> int:
    """Install what certbot has just got; returns the exit code."""
    lineage, sites, tell = Path(os.environ["RENEWED_LINEAGE"]), Path(sys.argv[1]), sys.argv[2:]
    place = sites / lineage.name
    texts = {"fullchain.pem": (lineage / "fullchain.pem").read_text(), "key.pem": (lineage / "privkey.pem").read_text()}
    before = install(place, texts)
    command = tell if tell[1:] else ["systemctl", "reload", *tell]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return 0
    install(place, before)
    sys.stderr.write(f"{place}: found a new pair that {' '.join(tell)} refuses, the old one is back: {done.stderr}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
