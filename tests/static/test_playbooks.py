"""The playbooks, as far as Ansible can judge them without a host."""

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from project import PLAYBOOKS, ROLES, ROOT, ansible, files_of, imported, load, options

from praetor.host.phases import PHASES
from praetor.run.options import PLAYBOOKS as OPTIONS

MONITORING = imported("plugins/filter/monitoring.py")
EXPORTERS = {
    *MONITORING.EXPORTERS,
    *MONITORING.BALANCER_EXPORTERS,
    *MONITORING.DATABASE_EXPORTERS,
    *MONITORING.REDIS_EXPORTERS,
}


def test_every_playbook_is_understood_by_ansible() -> None:
    done = ansible("ansible-playbook", "-i", "inventories/lab", "--syntax-check", *PLAYBOOKS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("playbook: ") == len(PLAYBOOKS)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_facts_are_gathered_only_where_a_play_says_so(playbook: str) -> None:
    for play in load(ROOT / playbook):
        if "ansible.builtin.import_playbook" not in play:
            assert "gather_facts" in play, play.get("name")


def whole(playbook: str) -> str:
    """Return the text of a playbook with those that it imports and the tasks that it includes."""
    text = (ROOT / "playbooks" / playbook).read_text(encoding="utf-8")
    for other in set(re.findall(r"import_playbook: ([\w/.]+)$", text, re.MULTILINE)):
        text += whole(other)
    for included in set(re.findall(r"(?:import|include)_tasks: ([\w/.]+)$", text, re.MULTILINE)):
        path = ROOT / "playbooks" / ("" if included.startswith("tasks/") else "tasks") / included
        text += whole(str(path.relative_to(ROOT / "playbooks")))
    return text


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_reads_the_options_that_are_declared_and_no_others(playbook: str) -> None:
    name, text = Path(playbook).stem, whole(Path(playbook).name)
    declared = OPTIONS[name]
    unused = [option for option in declared if not re.search(rf"\b{option}\b", text)]
    assert unused == []
    inputs = {option for role in ROLES for option in options(role)}
    read = set(re.findall(r"\b([a-z][a-z0-9_]*) \| (?:default|mandatory)\b", text))
    # What Ansible, the check and the inventory know.
    others = {variable for variable in read if variable.startswith("ansible_")} | inputs
    assert read - others - set(declared) == set()


def roles_of(play: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the roles of a play in their order, each with its entry."""
    named = [(role["role"], role) for role in play.get("roles", [])]
    tasks = [task for part in ("pre_tasks", "tasks", "post_tasks") for task in play.get(part, [])]
    imported = [
        (task["ansible.builtin.import_role"]["name"], task) for task in tasks if "ansible.builtin.import_role" in task
    ]
    return named + imported


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_host_is_told_what_its_firewall_and_its_ssh_leave_open(playbook: str) -> None:
    """Role base refuses to lock somebody out, and cannot know these two by itself."""
    for play in load(ROOT / playbook):
        for role, task in roles_of(play):
            if role == "base":
                assert {"base_open_ports", "base_login_groups"} <= set(task["vars"]), play["name"]


def test_the_command_that_brings_wal_back_is_there_before_a_standby_starts() -> None:
    (play,) = [
        play for play in load(ROOT / "playbooks/provision.yml") if play.get("name") == "Provision the database hosts"
    ]
    roles = [role for role, _ in roles_of(play)]
    assert roles.index("pgbackrest") < roles.index("postgresql")


def test_another_debian_on_the_backup_host_is_refused_before_a_database_is_touched() -> None:
    plays = load(ROOT / "playbooks/provision.yml")
    refused = next(number for number, play in enumerate(plays) if "exactly its own version" in str(play.get("tasks")))
    changes = [number for number, play in enumerate(plays) if roles_of(play)]
    assert refused < min(changes)


def test_a_dead_primary_holds_a_failover_up_for_seconds() -> None:
    """Nobody can write until it is given up, so Ansible tries less long than for other playbooks."""
    (play,) = [play for play in load(ROOT / "playbooks/failover.yml") if play["name"] == "Fail over"]
    assert play["vars"]["ansible_ssh_timeout"] * (1 + play["vars"]["ansible_ssh_retries"]) <= 10


@pytest.mark.parametrize("path", ["playbooks/provision.yml", "playbooks/tasks/certificates.yml"])
def test_app_hosts_behind_balancers_have_certificates_that_balancers_believe(path: str) -> None:
    [expression] = re.findall(r"certificates_mode: >-\n +(\{\{.*\}\})\n", (ROOT / path).read_text(encoding="utf-8"))
    template = jinja2.Template(expression)
    mode = {"app1": {"certificates_mode": "provided"}}
    for groups, expected in (
        ({"balancer_hosts": ["lb1"]}, "internal"),
        ({"balancer_hosts": []}, "provided"),
        ({}, "provided"),
    ):
        assert template.render(inventory_hostname="app1", groups=groups, hostvars=mode) == expected


@pytest.mark.parametrize("role", ["haproxy", "acme", "certificates"])
def test_balancers_are_told_the_same_by_a_release_as_by_provisioning(role: str) -> None:
    plays = load(ROOT / "playbooks/provision.yml")
    given = [
        each["vars"]
        for play in plays
        if "balancer_hosts" in str(play.get("hosts")) and "vars" in play and "__provision_apps" in play["vars"]
        for name, each in roles_of(play)
        if name == role and each.get("name") == f"Bring {role}"
    ]
    told = [
        task["vars"]
        for task in load(ROOT / "playbooks/tasks/balance.yml")
        if task["ansible.builtin.include_role"]["name"] == role
    ]
    assert given == told


def texts() -> str:
    """Return all playbooks and their tasks."""
    return "\n".join(path.read_text(encoding="utf-8") for path in files_of("playbooks/**/*.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_brought_to_hosts_by_a_playbook(role: str) -> None:
    assert re.search(rf"(?m)^\s+(- role: {role}|name: {role}|ansible.builtin.import_role: {{name: {role},.*)$", texts())


@pytest.mark.parametrize("role", sorted(EXPORTERS))
def test_what_every_exporter_says_is_a_job_of_prometheus(role: str) -> None:
    assert re.search(rf"- name: {role.removesuffix('_exporter')}\n", texts().partition("prometheus_jobs:")[2])


def arguments_of(action: str, value: Any) -> list[dict[str, Any]]:
    """Return what each task with an action is given, at any depth."""
    if isinstance(value, list):
        return [found for each in value for found in arguments_of(action, each)]
    if not isinstance(value, dict):
        return []
    inner = [found for key, each in value.items() if key != action for found in arguments_of(action, each)]
    return [*([value[action]] if action in value else []), *inner]


@pytest.mark.parametrize("group", ["app_hosts", "database_hosts", "backup_hosts", "redis_hosts"])
def test_the_exporters_that_a_host_gets_are_those_that_are_passed_on_and_guarded(group: str) -> None:
    plays = [
        play for play in load(ROOT / "playbooks/provision.yml") if group in re.findall(r"\w+", play.get("hosts", ""))
    ]
    brought = {given["name"] for given in arguments_of("ansible.builtin.import_role", plays)}
    found = {role for role in brought if role.endswith("_exporter")}
    assert found == set(MONITORING._exporters("host", {group: ["host"]})), (
        "plugins/filter/monitoring.py has EXPORTERS, playbooks/provision.yml the roles"
    )


def test_every_phase_is_done_by_a_task_and_every_task_does_one() -> None:
    tasks = [found for path in files_of("playbooks/**/*.yml") for found in arguments_of("app_phase", load(path))]
    assert {name for given in tasks for name in given} - {"app", "plan", "run"} == set(PHASES)
    assert all(len(given.keys() & PHASES.keys()) == 1 for given in tasks)
