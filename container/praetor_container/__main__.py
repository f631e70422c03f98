"""The commands of an app's image.

serve           (the default) check, migrate if the app wants that at each start, then serve until SIGTERM
health          exit status 0 if the app is healthy: the image's HEALTHCHECK
check           the app's own check commands
migrate         the app's migrations
worker NAME     a process of the app's entry, until SIGTERM
run COMMAND...  a program of the app, with what the app finds
"""

from __future__ import annotations

import difflib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from .image import Image, RefusedError, read
from .programs import log
from .settings import environment, settings

COMMANDS = ("serve", "health", "check", "migrate", "worker", "run")


def main() -> int:
    """Do what the container was started for."""
    words = sys.argv[1:] or ["serve"]
    image = read()
    try:
        return _do(words, image, os.environ)
    except RefusedError as refused:
        log("critical", str(refused))
        return 1


def _do(words: list[str], image: Image, environ: Mapping[str, str]) -> int:
    match words:
        case ["serve"]:
            from .serving import serve  # noqa: PLC0415  a health check every few seconds needs none of it

            return serve(image, settings(environ, image), environ, environment(environ, image))
        case ["health"]:
            return health(image, settings(environ, image).port)
        case ["check"]:
            return steps("check", image.checks, image, environment(environ, image))
        case ["migrate"]:
            return steps("migrate", image.migrations, image, environment(environ, image))
        case ["worker", *names]:
            return worker(" ".join(names), image, environment(environ, image))
        case ["run", program, *rest]:
            os.chdir(image.place / "src")
            env = environment(environ, image)
            try:
                os.execvpe(program, [program, *rest], env)  # noqa: S606  a command of whoever runs the container
            except OSError as error:
                raise RefusedError(f"run {program}: {error.strerror}") from None
        case ["run"]:
            raise RefusedError("run: which command? For example: run python -m api.config show")
        case [word, *rest]:
            near = difflib.get_close_matches(word, COMMANDS, n=1)
            hint = f"{near[0]}?" if near and not rest else f"run {' '.join(words)}?"
            raise RefusedError(f"{word}: the commands are {', '.join(COMMANDS)}; did you mean {hint}")
    return 1


def steps(name: str, commands: list[list[str]], image: Image, env: Mapping[str, str]) -> int:
    """Run the app's own commands one after the other, until one fails."""
    if not commands:
        print(f"{name}: {image.app} has no such commands", file=sys.stderr)  # noqa: T201
    for command in commands:
        try:
            done = subprocess.run(command, cwd=image.place / "src", env=dict(env), check=False)
        except OSError as error:
            raise RefusedError(f"{name}: '{' '.join(command)}': {error.strerror}") from None
        if done.returncode:
            raise RefusedError(f"{name}: '{' '.join(command)}' failed with exit status {done.returncode}")
    return 0


def worker(name: str, image: Image, env: Mapping[str, str]) -> int:
    """Run a process of the app. What asks the container to end becomes the signal that lets this one finish what it is doing."""
    if name not in image.processes:
        raise RefusedError(f"worker {name or 'NAME'}: {image.app} has {', '.join(image.processes) or 'none'}")
    found = image.processes[name]
    # Each container of a service has another host name.
    own = f"{name}-{socket.gethostname()}"
    known = {"${APP_PROCESS}": own, "${APP_DATA_DIR}": str(image.data)}
    command = [re.sub(r"\$\{APP_\w+\}", lambda it: known.get(it[0], it[0]), word) for word in found.command]
    try:
        running = subprocess.Popen(command, cwd=image.place / "src", env={**env, "APP_PROCESS": own})
    except OSError as error:
        raise RefusedError(f"worker {name}: '{' '.join(command)}': {error.strerror}") from None
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: running.send_signal(signal.Signals[found.stop_signal]))
    status = running.wait()
    return status if status >= 0 else 128 - status


def health(image: Image, port: int) -> int:
    """Ask as a client does, through NGINX, and print what came back: the engine keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        headers = {"Host": image.server_name, "User-Agent": "healthcheck"}
        connection.request("GET", image.health.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"{image.health.path}: no answer: {error}")  # noqa: T201
        return 1
    finally:
        connection.close()
    print(answer.status, body)  # noqa: T201
    return 0 if image.health.is_met(answer.status) else 1


if __name__ == "__main__":
    sys.exit(main())
