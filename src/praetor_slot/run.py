"""Gives a program of a release its environment and becomes it: `run.py RELEASE NAME PROGRAM [ARGUMENT...]`.

Started by systemd as the app's user for processes, jobs and single commands. RELEASE is the release's directory, NAME one of the program's start that no other
on the host has. Nothing is kept of the environment that systemd gives but what a program needs to speak with systemd.
"""

import os
import pwd
import sys
from pathlib import Path

# Of systemd: where to say READY=1, what a watchdog wants, where the journal is.
_KEPT = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM", "TERM")


def environment(release: Path, name: str) -> dict[str, str]:
    """What every program of a release finds; the release's own variables may replace it."""
    user = pwd.getpwuid(os.getuid())
    found = {key: os.environ[key] for key in _KEPT if key in os.environ}
    found |= {
        "PATH": f"{release}/venv/bin:/usr/bin:/bin",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{release}/src",
    }
    for directory in ("env", "secrets"):
        found |= {path.name: path.read_text(encoding="utf-8") for path in sorted((release / directory).iterdir())}
    return {**found, "APP_PROCESS": name}


def command(arguments: list[str], name: str) -> list[str]:
    """A program and its arguments, in which `${APP_PROCESS}` stands for the name of this start."""
    return [argument.replace("${APP_PROCESS}", name) for argument in arguments]


def main() -> None:
    """Become the program."""
    release, name, *arguments = sys.argv[1:]
    # The release's interpreter executes what its packages put into .pth files.
    if os.getuid() == 0:
        sys.exit("nothing of a release runs as root")
    os.chdir(f"{release}/src")
    given = environment(Path(release), name)
    program, *rest = command(arguments, name)
    try:
        os.execvpe(program, [program, *rest], given)  # noqa: S606  that is what this is for
    except OSError as error:
        sys.exit(f"{program}: {error.strerror}; it is looked for in {given['PATH']}")


if __name__ == "__main__":
    main()
