"""Host tests know an inventory only: the same tests run on throw-away machines and on real hosts.

    pytest tests/hosts --ansible-inventory=inventories/staging

Each test that asks for `host` runs once on every host of the group app_hosts, as root through sudo; one that asks for `monitor`
once on every host of the group monitoring_hosts, if there are any; `database`, `backup`, `balancer` and `redis` in the same way, and `storing` on
every host that stores copies of its files.
"""

from __future__ import annotations

import functools
import json
import os
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import testinfra
from client import Site
from project import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator

    from testinfra.host import Host

DEFAULT_INVENTORY = ROOT / "inventories/molecule"
GROUP, MONITORS, DATABASES, BACKUPS = "app_hosts", "monitoring_hosts", "database_hosts", "backup_hosts"
BALANCERS, REDIS = "balancer_hosts", "redis_hosts"
CONNECTION = {
    "address": "ansible_host | default(inventory_hostname)",
    "port": "ansible_port | default(22)",
    "user": "ansible_user | default('')",
    "key": "ansible_ssh_private_key_file | default('')",
    "ssh_args": "ansible_ssh_common_args | default('')",
    "sockets": "ansible_control_path_dir | default('~/.ansible/cp')",
    "apps": "apps",
    "known_keys": "ssh_known_keys | default([])",
    # Behind balancers, which have the clients' certificates, app hosts show those of the internal authority.
    "certificates": "('balancer_hosts' in groups and 'balancer_hosts' not in group_names) | ternary('internal', certificates_mode | default('internal'))",
    "shared": "keepalived_addresses | default([])",
    "roots": "certificates_roots_file | default('/etc/ssl/certs/ca-certificates.crt')",
}
# Without the traces of the tests themselves, which log in and become root for each command.
JOURNAL = (
    "journalctl --no-pager --lines=400 --output=short-precise | grep -vE ' (sudo|sshd|sshd-session)\\[' | tail -n 80"
)


@functools.cache
def hosts_of(inventory: Path, group: str = GROUP) -> dict[str, dict[str, Any]]:
    """Return how to reach each host of a group, and what apps the inventory has.

    Asked from Ansible itself, because testinfra reads an inventory's variables as they are written, templates and all.
    """
    question = "{{ {" + ", ".join(f"'{name}': {value}" for name, value in CONNECTION.items()) + "} }}"
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    with tempfile.TemporaryDirectory() as answers:
        command = ["ansible", group, "-i", str(inventory), "-m", "ansible.builtin.debug", "--tree", answers]
        arguments = json.dumps({"msg": question})
        asked = subprocess.run(
            [*command, "-a", arguments], check=False, capture_output=True, text=True, cwd=ROOT, env=environment
        )
        found = {path.name: json.loads(path.read_text())["msg"] for path in sorted(Path(answers).iterdir())}
    if asked.returncode != 0 or (not found and group == GROUP):
        raise pytest.UsageError(f"no hosts in {group} of {inventory}: {asked.stdout}{asked.stderr}")
    return found


def inventory_of(config: pytest.Config) -> Path:
    """Return the inventory that this run is about."""
    return Path(config.getoption("--ansible-inventory") or DEFAULT_INVENTORY).resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `playbooks/verify.yml` asks for."""
    parser.addoption("--promises", action="store_true", help="end with a table of promises kept and broken")
    parser.addoption("--drift", action="store_true", help="also ask Ansible what it would change")


PROMISES: list[tuple[str, str, str, str]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note for the table which promise was kept on which host, and what was seen where it was not."""
    if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
        return
    name, _, parameters = report.nodeid.rpartition("::")[2].removeprefix("test_").partition("[")
    host, _, more = parameters.removesuffix("]").partition("-")
    promise = " ".join(filter(None, [name.replace("_", " "), more and f"({more})"]))
    crash = getattr(report.longrepr, "reprcrash", None)
    # Of a test that was skipped pytest keeps file, line and reason.
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else crash.message if crash else ""
    seen = str(told).removeprefix("AssertionError: ").removeprefix("Skipped: ").partition("\n")[0]
    PROMISES.append((host, report.outcome, promise, seen))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: what is broken last, where the eye is."""
    if not terminalreporter.config.getoption("--promises"):
        return
    words = {"passed": "kept", "failed": "BROKEN", "skipped": "not asked"}
    rows = sorted(PROMISES, key=lambda row: (row[1] == "failed", row[0], row[2]))
    wide = max((len(host) for host, *_ in rows), default=4)
    terminalreporter.write_line("")
    terminalreporter.write_line(f"{'host':<{wide}}  {'':<9}  promise")
    for host, outcome, promise, seen in rows:
        terminalreporter.write_line(f"{host:<{wide}}  {words[outcome]:<9}  {promise}")
        if outcome == "skipped":
            terminalreporter.write_line(f"{'':<{wide}}  {'':<9}  why: {seen[:300]}")
        if outcome == "failed":
            terminalreporter.write_line(f"{'':<{wide}}  {'':<9}  seen: {seen[:300]}")
    broken = sum(outcome == "failed" for _, outcome, *_ in rows)
    terminalreporter.write_line(f"{len(rows) - broken} kept or not asked, {broken} broken")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a host on every host."""
    for fixture, group in (
        ("host_name", GROUP),
        ("monitor_name", MONITORS),
        ("database_name", DATABASES),
        ("backup_name", BACKUPS),
        ("balancer_name", BALANCERS),
        ("redis_name", REDIS),
    ):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, list(hosts_of(inventory_of(metafunc.config), group)), scope="session")
    if "storing_name" in metafunc.fixturenames:
        metafunc.parametrize("storing_name", list(storing_hosts(inventory_of(metafunc.config))), scope="session")


def storing_hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Return the hosts that store copies of their files on a backup host; none where the inventory has no such host."""
    return {**hosts_of(inventory), **hosts_of(inventory, MONITORS)} if hosts_of(inventory, BACKUPS) else {}


def served(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the apps of an inventory that have a site; a test is skipped where none has."""
    found = [app for app in settings["apps"] if app.get("wsgi")]
    if not found:
        pytest.skip("no app of this inventory has a site")
    return found


def public(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the apps whose site lets everybody in: of the others nobody here knows the passwords; a test is skipped where there is none."""
    found = [app for app in served(settings) if not app.get("http", {}).get("access")]
    if not found:
        pytest.skip("no app of this inventory is for everybody")
    return found


@pytest.fixture(scope="session")
def settings(host_name: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return what the inventory says about the host: address, apps and how to reach it."""
    return hosts_of(inventory_of(pytestconfig))[host_name]


@pytest.fixture(scope="session")
def host(settings: dict[str, Any]) -> Host:
    """Return the app host as root."""
    return reached(settings)


@pytest.fixture(scope="session")
def fleet(pytestconfig: pytest.Config) -> dict[str, dict[str, Any]]:
    """Return what the inventory says about all app hosts, by name."""
    return hosts_of(inventory_of(pytestconfig))


@pytest.fixture(scope="session")
def monitor_settings(monitor_name: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return what the inventory says about the monitoring host."""
    return hosts_of(inventory_of(pytestconfig), MONITORS)[monitor_name]


@pytest.fixture(scope="session")
def monitor(monitor_settings: dict[str, Any]) -> Host:
    """Return the monitoring host as root."""
    return reached(monitor_settings)


@pytest.fixture(scope="session")
def database_settings(database_name: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return what the inventory says about the database host."""
    return hosts_of(inventory_of(pytestconfig), DATABASES)[database_name]


@pytest.fixture(scope="session")
def database(database_settings: dict[str, Any]) -> Host:
    """Return the database host as root."""
    return reached(database_settings)


@pytest.fixture(scope="session")
def backup(backup_name: str, pytestconfig: pytest.Config) -> Host:
    """Return the backup host as root."""
    return reached(hosts_of(inventory_of(pytestconfig), BACKUPS)[backup_name])


@pytest.fixture(scope="session")
def redis_settings(redis_name: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return what the inventory says about the Redis host."""
    return hosts_of(inventory_of(pytestconfig), REDIS)[redis_name]


@pytest.fixture(scope="session")
def redis(redis_settings: dict[str, Any]) -> Host:
    """Return the Redis host as root."""
    return reached(redis_settings)


@pytest.fixture(scope="session")
def storing(storing_name: str, pytestconfig: pytest.Config) -> Host:
    """Return a host that stores copies of its files, as root."""
    return reached(storing_hosts(inventory_of(pytestconfig))[storing_name])


@pytest.fixture(scope="session")
def balancers(pytestconfig: pytest.Config) -> dict[str, dict[str, Any]]:
    """Return what the inventory says about all balancers, by name; none where it has none."""
    return hosts_of(inventory_of(pytestconfig), BALANCERS)


@pytest.fixture(scope="session")
def balancer_settings(balancer_name: str, balancers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what the inventory says about the balancer."""
    return balancers[balancer_name]


@pytest.fixture(scope="session")
def balancer(balancer_settings: dict[str, Any]) -> Host:
    """Return the balancer as root."""
    return reached(balancer_settings)


def reached(settings: dict[str, Any]) -> Host:
    """Return a host as root, over one shared connection."""
    sockets = Path(settings["sockets"]).expanduser()
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    user = f"{settings['user']}@" if settings["user"] else ""
    arguments = "-o ControlMaster=auto -o ControlPersist=60s"
    return testinfra.get_host(
        f"ssh://{user}{settings['address']}:{settings['port']}",
        sudo=True,
        ssh_identity_file=settings["key"] or None,
        ssh_extra_args=f"{settings['ssh_args']} {arguments} -o ControlPath={sockets}/%C",
    )


@pytest.fixture(scope="session")
def site(host: Host, settings: dict[str, Any]) -> Site:
    """Return how a client reaches the host's sites, and whom it trusts."""
    if settings["certificates"] == "none":
        return Site(settings["address"], None)
    if settings["certificates"] == "internal":
        authority = host.check_output("cat /etc/praetor/tls/host/authority.pem")
        return Site(settings["address"], ssl.create_default_context(cadata=authority))
    return Site(settings["address"], ssl.create_default_context(cafile=str(ROOT / settings["roots"])))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the host's journal with each failure, so that nobody has to reproduce it to see why."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    failed_on = next(
        (
            arguments[name]
            for name in ("host", "monitor", "database", "backup", "balancer", "redis", "storing")
            if name in arguments
        ),
        None,
    )
    if report.failed and call.when in {"setup", "call"} and failed_on is not None:
        journal = failed_on.run(JOURNAL)
        report.sections.append(("journal of the host", journal.stdout or journal.stderr))
    return report
