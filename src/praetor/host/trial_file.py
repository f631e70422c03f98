"""A file that takes effect on trial, and is undone by the host itself unless someone confirms it."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .layout import ReleaseError

_STATE = Path("/var/lib/praetor/trials")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _filled(argv: list[str], path: Path) -> list[str]:
    return [word.replace("%s", str(path)) for word in argv]


def undo_script(place: Path, dest: Path, undo: list[list[str]]) -> str:
    """Return what the timer runs: the old file first, because a reboot in between must find it."""
    name, old = shlex.quote(str(dest)), shlex.quote(str(place / "old"))
    commands = [shlex.join(_filled(argv, place / "saved")) for argv in undo]
    return "\n".join(
        [
            "#!/bin/sh",
            "# Made by praetor.host.trial_file. Brings back what was there before a change that nobody confirmed.",
            f"if [ -f {old} ]; then cp -a {old} {name}.undo && mv -f {name}.undo {name}; else rm -f {name}; fi",
            *commands,
            f"touch {shlex.quote(str(place / 'undone'))}",
            "",
        ]
    )


class Trial:
    """The trial of one file on this host."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Look at nothing yet."""
        self.params = params
        self.place = _STATE / params["name"]
        self.dest = Path(params["dest"])
        self.candidate = self.place / "candidate"
        self.timer = f"praetor-undo-{params['name']}"
        # A file that is tried from its own place is installed when it is confirmed, any other before it is tried.
        self.late = any("%s" in word for word in params["apply"])

    def present(self) -> str | None:
        """The text of the file as it is."""
        try:
            return self.dest.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def effect(self) -> str:
        """A digest of what is in effect."""
        return _digest(_run(self.params["in_effect"]).stdout) if self.params["in_effect"] else ""

    def is_current(self) -> bool:
        """Whether the file was confirmed, and both file and effect are still what they were then."""
        try:
            confirmed = json.loads((self.place / "confirmed.json").read_text())
        except (OSError, ValueError):
            return False
        wanted = self.params["content"]
        return bool(
            self.present() == wanted and confirmed == {"content": _digest(wanted), "effect": self.effect()},
        )

    def check(self) -> str:
        """What is wrong with the file; it is written to the trial's own place for that."""
        self.candidate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.candidate.write_text(self.params["content"], encoding="utf-8")
        self.candidate.chmod(0o600)
        done = _run(_filled(self.params["check"], self.candidate))
        said = f"{shlex.join(self.params['check'])}: {done.stderr or done.stdout}"
        return said.strip() if done.returncode else ""

    def install(self) -> None:
        """Put the file in its place by a rename."""
        self.dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = self.dest.with_name(f"{self.dest.name}.new")
        partial.write_text(self.params["content"], encoding="utf-8")
        partial.chmod(0o644)
        partial.replace(self.dest)

    def armed(self) -> bool:
        """Whether the timer still runs."""
        return _run(["systemctl", "is-active", "--quiet", f"{self.timer}.timer"]).returncode == 0

    def disarm(self) -> None:
        """Stop the timer."""
        _run(["systemctl", "stop", f"{self.timer}.timer"])

    def undo(self) -> None:
        """Bring back what was there before, now."""
        self.disarm()
        _run(["/bin/sh", str(self.place / "undo")])

    def begin(self) -> str:
        """Arm the timer, then put the file into effect; what went wrong, with everything undone, or nothing."""
        if self.armed():  # the run before this one was killed
            self.undo()
        for name in ("old", "saved", "undone"):
            (self.place / name).unlink(missing_ok=True)
        old = self.present()
        if old is not None:
            (self.place / "old").write_text(old, encoding="utf-8")
            (self.place / "old").chmod(self.dest.stat().st_mode & 0o777)
        if self.params["save"]:
            (self.place / "saved").write_text(_run(self.params["save"]).stdout, encoding="utf-8")
        script = self.place / "undo"
        script.write_text(undo_script(self.place, self.dest, self.params["undo"]), encoding="utf-8")
        command = ["systemd-run", "--quiet", "--collect", f"--unit={self.timer}"]
        command += [f"--on-active={self.params['undo_s']}s", "--timer-property=AccuracySec=1s"]
        armed = _run([*command, "/bin/sh", str(script)])
        if armed.returncode or not self.armed():
            return f"nothing was changed, because the timer that would undo it does not start: {armed.stderr.strip()}"
        if not self.late:
            self.install()
        done = _run(_filled(self.params["apply"], self.candidate))
        if done.returncode:
            self.undo()
            return f"{shlex.join(self.params['apply'])} failed, and was undone: {(done.stderr or done.stdout).strip()}"
        return ""

    def confirm(self) -> str:
        """Keep what is in effect; why it could not be kept, or nothing."""
        was_armed = self.armed()
        self.disarm()
        if not was_armed or (self.place / "undone").exists():
            return "nobody confirmed in time: the host has undone it"
        if self.late:
            self.install()
        record = {"content": _digest(self.params["content"]), "effect": self.effect()}
        (self.place / "confirmed.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        return ""


def work(  # noqa: PLR0913  what a task says
    *,
    check: bool,
    name: str,
    dest: str,
    content: str,
    validate: list[str],
    apply: list[str],
    undo: list[list[str]],
    in_effect: list[str] = [],  # noqa: B006  read only
    save: list[str] = [],  # noqa: B006
    undo_s: int = 40,
    confirm: bool = False,
) -> dict[str, Any]:
    """Put a file into effect so that a mistake which cuts the connection undoes itself.

    The command `validate` judges the file `%s`, a timer of systemd that undoes everything is armed, then `apply` puts the file into effect. Who asked logs in over a
    new connection and calls again to `confirm`. If it cannot log in, it cannot confirm, and the timer runs `undo`: commands that bring back the state
    that `save` printed (`%s`), or the old file.

    What was confirmed is remembered. A file that differs from it, or an effect that does (what `in_effect` prints), is put into effect again. When `apply`
    contains `%s` the file is tried from a separate place and installed when it is confirmed; a reboot before that comes back with the old one.
    `name` names the timer and the directory of the trial.

    Returns:
        `undone_after_s`, when the host undoes it unless it is confirmed; only where it was changed.

    Raises:
        ReleaseError: the file is wrong, could not be put into effect, or was undone before it was confirmed.
    """
    params = {"name": name, "dest": dest, "content": content, "check": validate, "apply": apply, "undo": undo}
    trial = Trial({**params, "in_effect": in_effect, "save": save, "undo_s": undo_s})
    if confirm:
        if error := trial.confirm():
            raise ReleaseError(error)
        return {"changed": True}
    if trial.is_current():
        return {"changed": False}
    with tempfile.TemporaryDirectory() as elsewhere:
        if check:
            trial.candidate = Path(elsewhere, "candidate")
        error = trial.check()
    if error:
        raise ReleaseError(f"{dest} would not be correct; nothing was changed. {error}")
    diff = {"before_header": dest, "after_header": dest, "before": trial.present() or "", "after": content}
    if not check and (error := trial.begin()):
        raise ReleaseError(error)
    return {"changed": True, "diff": diff, "undone_after_s": undo_s}
