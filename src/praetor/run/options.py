"""What `-e` may say to each playbook. Help, its page in docs/reference and the refusal of anything else are made from here."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

Kind = Literal["text", "true or false", "a whole number"]


class Option(NamedTuple):
    """One option: what it does, what its value is, and which values there are if these are few."""

    says: str
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    of: str = ""  # its value is one of these in the inventory: "apps", or a group of hosts
    needed: bool = False

    @property
    def described(self) -> str:
        """What the option does, and whether a run needs it."""
        return f"{self.says} Needed." if self.needed else self.says


_APP = Option("This app only; without it all apps of the inventory.", of="apps")
_ONE_APP = Option("The app; not needed where the inventory has one.", of="apps")
_THE_APP = Option("The app.", of="apps", needed=True)
_WHY = Option("A reason, for the history.")
_LOCK_WAIT = Option("Seconds to wait for another run on the same app.", "a whole number")
_TURN_WAIT = Option("Seconds to wait for another run that takes hosts out; 0.", "a whole number")
_CACHE = Option("Directory on the controller that keeps what was built; ~/.cache/praetor unless given.")
_UPGRADE = Option("Take newer versions of what the project does not lock itself.", "true or false")
_PYTHONS = Option(
    "Pythons to build for, such as '3.11 3.13', with the processor where it is not x86-64: '3.13-aarch64'; without it those of all x86-64 hosts."
)
_FORMAT = Option("How the table is printed.", choices=("table", "json"))
_RESTORE_FIRST = Option(
    "Everything was lost but the backups: database hosts get no data; restore.yml brings it back later.",
    "true or false",
)
_PROVISION = {"release_cache": _CACHE, "restore_first": _RESTORE_FIRST}
_TO = Option("The database host that becomes the primary.", of="database_hosts", needed=True)
_HOST = Option("The app host.", of="app_hosts", needed=True)
_KEEP = Option("How many other hosts must still serve each app; 1.", "a whole number")
_RELEASE = {
    "app": _APP,
    "release": Option("Use an artifact that was built earlier, named by the id of one of its releases. Needs `app`."),
    "why": _WHY,
    "lock_wait": _LOCK_WAIT,
    "force": Option("Release even what is marked bad, and while releases are frozen.", "true or false"),
    "upgrade": _UPGRADE,
    "release_cache": _CACHE,
}
HELP = Option("Print these options and end.", "true or false")
PLAYBOOKS: dict[str, dict[str, Option]] = {
    "build": {
        "app": _APP,
        "pythons": _PYTHONS,
        "upgrade": _UPGRADE,
        "release_cache": _CACHE,
    },
    "check": {},
    "controller_copy": {
        "passphrase_file": Option(
            "A file with a passphrase to use instead of the vault's password, which the copy then contains."
        ),
        "bring_back": Option("Bring back what is in the copy, on a new controller.", "true or false"),
    },
    "deploy": {**_PROVISION, **_RELEASE},
    "drain": {
        "host": _HOST,
        "why": Option("A reason, for whoever finds the host drained."),
        "keep": _KEEP,
        "lock_wait": _TURN_WAIT,
    },
    "drill": {},
    "failover": {"to": _TO, "force": Option("Also while the old primary serves.", "true or false")},
    "freeze": {
        "app": _APP,
        "until_time": Option("When it ends: a time in UTC, or one from now such as +12h."),
        "reason": Option("Why: shown to whoever is refused."),
        "thaw": Option("End it now.", "true or false"),
    },
    "history": {
        "app": _APP,
        "last": Option("Lines for each host and app; 20 unless given.", "a whole number"),
        "format": _FORMAT,
    },
    "image": {
        "app": _THE_APP,
        "commit": Option("Commit of its source, where the build has no history."),
        "pythons": _PYTHONS,
        "built_at": Option("A time to note instead of now, so that the same input makes the same image."),
        "release_cache": _CACHE,
    },
    "lab_down": {"state": Option("`purged` also removes cached base trees and packages.", choices=("down", "purged"))},
    "lab_up": {},
    "logs": {
        "app": _THE_APP,
        "request_id": Option("Trace one request, by the id that the client got in X-Request-ID."),
        "host": Option("This host only, from the monitoring host if it does not answer or has left the inventory."),
        "since": Option("Since when: 15m, 2h, 3d, or a time in UTC; 15m, or a day with `request_id`."),
        "format": Option("How lines are printed.", choices=("text", "json")),
    },
    "maintain": {
        "host": Option(
            "This host only, or all of a group such as database_hosts; without it all app hosts, balancers, database and backup hosts."
        ),
        "keep": _KEEP,
        "lock_wait": _TURN_WAIT,
        "reboot": Option("When to reboot; auto: if an update asks for it.", choices=("auto", "always", "never")),
        "why": Option("A reason, for whoever finds a host drained."),
        "update": Option("Whether to bring packages up to date; true.", "true or false"),
        "outage": Option(
            "Also maintain a database host without a standby, and the Redis host; apps do without them meanwhile.",
            "true or false",
        ),
    },
    "maintenance": {
        "app": _ONE_APP,
        "for_time": Option("How long clients get 503: 90s, 15m, 2h. It ends by itself."),
        "allow": Option("Addresses and networks that are served as usual meanwhile, separated by commas."),
        "hold": Option("How long requests wait instead of getting 503, at most 30s; behind balancers only."),
        "end": Option("End it now.", "true or false"),
    },
    "move": {
        "app": _THE_APP,
        "process": Option("The app's process that runs once in the fleet, or its job with `on: once`.", needed=True),
        "to": Option("The host on which it should run.", of="app_hosts", needed=True),
        "dead": Option(
            "A host that does not answer, of which you know that it is off, so that the process has ended there.",
            of="app_hosts",
        ),
    },
    "provision": _PROVISION,
    "rejoin": {
        "host": Option(
            "The database host that becomes a standby; what it has is replaced.", of="database_hosts", needed=True
        )
    },
    "refresh": {"app": _APP, "why": _WHY, "lock_wait": _LOCK_WAIT},
    "release": _RELEASE,
    "remove": {
        "app": Option("The app, which is no longer in the inventory.", needed=True),
        "confirm": Option("Its name again."),
    },
    "restore": {
        "app": Option("Restore the files of this app, instead of databases; `host` is then an app host.", of="apps"),
        "host": Option(
            "The host that gets it: a database host, the backup host, or a monitoring host for what that keeps.",
            needed=True,
        ),
        "to_time": Option("The moment: a time in UTC, or with a zone; without it all there is."),
        "take_over": Option("Use what was restored: it becomes the primary, or replaces the files.", "true or false"),
        "remove": Option("Remove the copy that an earlier restore made.", "true or false"),
    },
    "rollback": {
        "app": _ONE_APP,
        "release": Option("The release to go back to; the previous one unless given."),
        "why": _WHY,
        "lock_wait": _LOCK_WAIT,
        "force": Option("Go back even to a release that is marked bad.", "true or false"),
    },
    "run": {
        "app": _THE_APP,
        "command": Option(
            "The command and its arguments, without a shell. The history keeps it, so put no secrets into it.",
            needed=True,
        ),
        "host": Option("The host on which it runs; the first one unless given.", of="app_hosts"),
        "timeout_s": Option("Seconds after which the command is ended; 600.", "a whole number"),
    },
    "status": {
        "app": _APP,
        "format": _FORMAT,
        "table": Option(
            "Which table; `demo` has a command to try for each host, `databases` and `redis` are without apps.",
            choices=("status", "demo", "databases", "redis"),
        ),
    },
    "switchover": {"to": _TO},
    "undrain": {"host": _HOST, "lock_wait": _TURN_WAIT},
    "upgrade_databases": {
        "try": Option("Only ask whether it can be done; changes nothing.", "true or false"),
        "remove_old": Option("Remove what hosts keep of the old version.", "true or false"),
        **_PROVISION,
    },
    "verify": {"tests": Option("Options of pytest, such as '-k isolation'.")},
}


def options_of(playbooks: Iterable[str]) -> dict[str, Option]:
    """The options of playbooks by their names; those of all for one that is none of ours and imports some."""
    found: dict[str, Option] = {"help": HELP}
    for name in playbooks:
        for known in [name] if name in PLAYBOOKS else PLAYBOOKS:
            found |= PLAYBOOKS[known]
    return found


def mistakes(
    given: Mapping[str, object],
    playbooks: Collection[str],
    others: Iterable[str],
    mentioned: Collection[str],
    inventory: Mapping[str, Collection[str]],
) -> list[str]:
    """What is wrong with the values of `-e`, a sentence each.

    Args:
        given: the variables of `-e`.
        playbooks: names of the playbooks that were started.
        others: other names that may be given: the inputs of roles.
        mentioned: variables that the inventory's files name, see `variables_in`: these are the inventory's business.
        inventory: its hosts by group, and the names of its `apps`; what is not known is missing or empty.
    """
    options, inputs = options_of(playbooks), set(others)
    found = []
    for name, value in given.items():
        if name in options:
            found += _problem(name, value, options[name], inventory)
        elif name not in inputs and not name.startswith("ansible_") and name not in mentioned:
            here = " and ".join(f"{playbook}.yml" for playbook in playbooks)
            meant = _meant(name, options, inputs)
            found.append(f"-e {name}={_short(value)}: {here} has no such option and no role has such an input; {meant}")
    # What imports some of ours gives them their options itself.
    started = [PLAYBOOKS[playbook] for playbook in playbooks if playbook in PLAYBOOKS]
    needed = {name: option for options in started for name, option in options.items() if option.needed}
    for name, option in needed.items():
        known = inventory.get(option.of, ())
        if not str(given.get(name, "")) and (known or not option.of):
            which = f", one of: {', '.join(known)}" if known else ""
            found.append(f"-e {name}: found none, expected -e {name}=...{which}. {option.says}")
    return found


def _meant(name: str, options: Collection[str], inputs: set[str]) -> str:
    """What may have been meant by a name that is no option here."""
    names = {known for declared in PLAYBOOKS.values() for known in declared}
    near = difflib.get_close_matches(name, [*options, *sorted(inputs), *sorted(names)], n=1)
    if not near:
        return f"expected one of: {', '.join(sorted(options))}"
    if near[0] in options or near[0] in inputs:
        return f"did you mean {near[0]}?"
    elsewhere = ", ".join(f"{playbook}.yml" for playbook, declared in PLAYBOOKS.items() if near[0] in declared)
    return f"{'it' if near[0] == name else near[0]} is an option of {elsewhere}"


def variables_in(text: str, *, of_hosts: bool) -> set[str]:
    """The variables that an inventory's file sets, or asks for in a template.

    Args:
        text: the file's.
        of_hosts: whether it lists hosts: then variables stand at any depth, else at the left edge.
    """
    return templates_in(text) | set((_SET_ANYWHERE if of_hosts else _SET).findall(text))


def templates_in(text: str) -> set[str]:
    """The words in the templates of a text."""
    return {word for template in _TEMPLATE.findall(text) for word in _WORD.findall(template)}


_TEMPLATE = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SET = re.compile(r"(?m)^([A-Za-z_]\w*)[ \t]*:")
_SET_ANYWHERE = re.compile(r"([A-Za-z_]\w*)[ \t]*[:=]")


def unquoted(text: str) -> str:
    """Say what is wrong with the text behind a `-e` of which Ansible takes the first word only, or none."""
    name, equals, value = text.partition("=")
    if not equals:
        return f"-e {_short(text)}: found no value, expected -e NAME=VALUE"
    # The shell takes away one pair of quotes, and Ansible splits at the spaces that are left bare.
    quoted = shlex.quote(f'"{value}"')
    return f"-e {name}={_short(value)}: found a space without quotes around it, expected -e {name}={quoted}"


def _problem(name: str, value: object, option: Option, inventory: Mapping[str, Collection[str]]) -> list[str]:
    text = str(value)
    known = inventory.get(option.of, ())
    if text and known and text not in known:
        what = "app" if option.of == "apps" else f"host in {option.of}"
        return [f"-e {name}={_short(value)}: the inventory has no such {what}, expected one of: {', '.join(known)}"]
    right = {
        "text": True,
        "true or false": text.lower() in {"true", "false", "yes", "no", "1", "0"},
        "a whole number": text.isdecimal(),
    }[option.kind]
    if right and (not option.choices or text in option.choices):
        return []
    expected = " or ".join(option.choices) or option.kind
    return [f"-e {name}={_short(value)}: expected {expected}"]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def usage(playbooks: Iterable[str]) -> str:
    """The options of playbooks as text."""
    options = options_of(playbooks)
    wide = max(map(len, options))
    lines = [
        f"  -e {name + '=...':<{wide + 4}}  {option.described}{_values(option)}" for name, option in options.items()
    ]
    return "\n".join(["Options:", *lines, "Any input of a role can be given with -e too: docs/reference/roles.md"])


def _values(option: Option) -> str:
    if option.choices:
        return f" ({', '.join(option.choices)})"
    return "" if option.kind == "text" else f" ({option.kind})"
