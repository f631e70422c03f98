"""playbooks/check.yml as an operator runs it: files, lines, vault and hosts that differ."""

import re
import subprocess
from pathlib import Path

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from project import ROOT, ansible

from praetor.inventory.model import Limits
from praetor.run import inputs

APPS_FILE = "group_vars/all/apps.yml"
KEY = "open sesame"
VALUE = "s3cret-of-this-test"
HOSTS = "app_hosts: {hosts: {one: {ansible_host: 192.0.2.1}, two: {ansible_host: 192.0.2.2}}}\n"
APP = """\
apps:
  - name: api
    source: {package: flask==3.1.0}
    wsgi: api.wsgi:app
    server_names: [api.example.org]
"""


class Inventory:
    """An inventory in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("hosts.yml", HOSTS)
        self.password_file = directory.parent / "password"
        self.password_file.write_text(KEY)

    def write(self, name: str, text: str) -> None:
        """Write one file of it."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def vaulted(self, value: str) -> str:
        """Return the value as `!vault` YAML for a key that is indented by six spaces."""
        arguments = ["--vault-id", f"test@{self.password_file}", "--encrypt-vault-id", "test"]
        done = ansible("ansible-vault", "encrypt_string", *arguments, stdin=value)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip() + "\n"

    def check(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the playbook."""
        return ansible("ansible-playbook", "playbooks/check.yml", "-i", str(self.directory), *arguments)


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    """Return an empty inventory of two hosts that nobody could contact."""
    return Inventory(tmp_path / "inventory")


def mistakes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the listed mistakes, each without the directory of its file."""
    # As Ansible's own lines, with -v, have them, or the story.
    block = re.search(r"^    mistakes: \|-\n((?:        .*\n)+)", done.stdout, re.MULTILINE) or re.search(
        r"^    .* mistakes? in .*\n((?:    .*\n)+)", done.stdout, re.MULTILINE
    )
    assert block, done.stdout + done.stderr
    return [line.strip().rpartition("/group_vars/")[2] for line in block[1].splitlines()]


def test_each_mistake_names_its_file_and_line(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP + "    threads: 0\n    limits:\n      body: 2\n      request_s: '8'\n")
    done = inventory.check()
    assert done.returncode == 2
    assert mistakes(done) == [
        "all/apps.yml:6: apps[0].threads: found 0, expected a whole number from 1 to 64",
        (
            f"all/apps.yml:8: apps[0].limits.body: found an unknown key, expected one of {', '.join(Limits.model_fields)}; "
            "did you mean body_mb?"
        ),
        (
            'all/apps.yml:9: apps[0].limits.request_s: found "8" (a string: leave the quotes out), '
            "expected a whole number from 1 to 3600"
        ),
    ]
    assert "3 mistakes in the inventory. No host was contacted." in done.stdout
    assert done.stdout.count("3 mistakes in") == 1, "said once, not once for each host"


@pytest.mark.parametrize(
    ("second", "twice"),
    [
        ("ansible_host: 192.0.2.1", True),
        ("ansible_host: 192.0.2.1, ansible_port: 22", True),
        ("ansible_host: 192.0.2.1, ansible_port: 2222", False),
        ("ansible_host: 192.0.2.2", False),
        ('ansible_host: "{{ net }}.1"', False),
        ('ansible_host: "{{ net }}.2"', True),
        ('ansible_host: "{{ inventory_hostname }}.example"', False),
    ],
)
def test_two_hosts_at_one_address_are_named(inventory: Inventory, second: str, *, twice: bool) -> None:
    first = '{ansible_host: 192.0.2.1}, x: {ansible_host: "{{ net }}.2"}, y: {ansible_host: "{{ inventory_hostname }}.example"}'
    inventory.write("hosts.yml", f"app_hosts: {{hosts: {{one: {first}, two: {{{second}}}}}}}\n")
    inventory.write(APPS_FILE, APP)
    inventory.write("group_vars/all/net.yml", "net: 192.0.2\n")
    found = re.findall(
        r"/hosts\.yml:1: two\.ansible_host: found 192\.0\.2\.\d, .* expected one host at each", inventory.check().stdout
    )
    assert len(found) == twice, found


def test_a_correct_inventory_passes_without_contact_and_shows_no_secret(inventory: Inventory) -> None:
    secret = inventory.vaulted(VALUE)
    inventory.write(APPS_FILE, APP + "    secrets:\n      API_TOKEN: " + secret)
    done = inventory.check("-vvv", "--vault-password-file", str(inventory.password_file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^one +: ok=1 +changed=0 +unreachable=0 +failed=0", done.stdout, re.MULTILINE)
    assert "ESTABLISH" not in done.stdout
    assert VALUE not in done.stdout + done.stderr


def test_secrets_reach_later_tasks_and_apps_are_without_them(inventory: Inventory, tmp_path: Path) -> None:
    inventory.write(APPS_FILE, APP + '    secrets: {API_TOKEN: "{{ token }}"}\ntoken: ' + inventory.vaulted(VALUE))
    book = tmp_path / "book.yml"
    book.write_text(f"""\
- ansible.builtin.import_playbook: {ROOT}/playbooks/check.yml
- hosts: app_hosts
  gather_facts: false
  tasks:
    - ansible.builtin.assert:
        that:
          - __apps.secrets.api.API_TOKEN == '{VALUE}'
          - "'secrets' not in __apps.apps[0]"
          - __apps.apps[0].limits.request_s == 30
          - __apps.root == '{ROOT}'
""")
    arguments = ["-i", str(inventory.directory), "--vault-password-file", str(inventory.password_file)]
    done = ansible("ansible-playbook", str(book), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_vaulted_value_is_not_shown_where_it_is_wrong(inventory: Inventory) -> None:
    secret = inventory.vaulted(VALUE)
    inventory.write(APPS_FILE, APP + "    config:\n      token: " + secret)
    done = inventory.check("-v", "--vault-password-file", str(inventory.password_file))
    assert mistakes(done) == [
        (
            "all/apps.yml:7: apps[0].config.token: found a vaulted value, "
            "expected vaulted values under secrets only: this place is shown in plans and logs"
        )
    ]
    assert VALUE not in done.stdout + done.stderr


@pytest.mark.parametrize("through_a_variable", [False, True])
def test_a_missing_vault_password_is_said_so(inventory: Inventory, *, through_a_variable: bool) -> None:
    secret = inventory.vaulted(VALUE)
    text = (
        f'    secrets: {{T: "{{{{ token }}}}"}}\ntoken: {secret}'
        if through_a_variable
        else f"    secrets:\n      T: {secret}"
    )
    inventory.write(APPS_FILE, APP + text)
    (found,) = mistakes(inventory.check())
    line = 6 if through_a_variable else 7
    assert found == (
        f"all/apps.yml:{line}: apps[0].secrets.T: found a vaulted value that cannot be decrypted, "
        "expected the vault's password: --vault-password-file FILE, or vault_password_file in ansible.cfg"
    )


def test_an_undefined_variable_is_one_mistake_among_others(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP + '    profile: "{{ nowhere }}"\n    threads: 0\n')
    assert mistakes(inventory.check()) == [
        (
            "all/apps.yml:6: apps[0].profile: found a template that cannot be resolved ('nowhere' is undefined), "
            "expected a variable that is defined"
        ),
        "all/apps.yml:7: apps[0].threads: found 0, expected a whole number from 1 to 64",
    ]


def test_one_app_has_one_definition_on_all_hosts(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP)
    inventory.write("host_vars/two.yml", APP + "    threads: 4\n")
    done = inventory.check()
    assert done.returncode == 2
    assert "app api: found different definitions on one and two (threads)" in done.stdout


def test_a_mistake_of_one_host_only_is_said_by_that_host(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP + '    threads: "{{ cores }}"\n')
    inventory.write("host_vars/one.yml", "cores: 4\n")
    inventory.write("host_vars/two.yml", "cores: 100\n")
    done = inventory.check()
    assert done.returncode == 2
    assert "apps[0].threads: found 100, expected a whole number from 1 to 64" in done.stdout


def test_what_cannot_be_resolved_on_another_host_is_a_mistake(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP + '    threads: "{{ cores }}"\n')
    inventory.write("host_vars/one.yml", "cores: 4\n")
    done = inventory.check()
    assert done.returncode == 2
    assert "cores" in done.stdout


def test_hosts_with_apps_of_their_own_need_runs_of_their_own(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP)
    inventory.write("host_vars/two.yml", APP.replace("api", "other"))
    done = inventory.check()
    assert done.returncode == 2
    assert "apps: found api on one and other on two, expected the same apps on all hosts of the play" in done.stdout
    assert inventory.check("--limit", "two").returncode == 0


def test_a_misspelled_variable_is_named_with_its_line(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, "# comment\n" + APP.replace("apps:", "aps:"))
    (found,) = mistakes(inventory.check())
    assert (
        found
        == "all/apps.yml:3: aps: found an unknown variable, expected the list of apps under the name apps; rename it"
    )


def test_an_inventory_without_app_hosts_is_refused(inventory: Inventory) -> None:
    inventory.write("hosts.yml", HOSTS.replace("app_hosts", "app_host"))
    done = inventory.check()
    assert done.returncode == 2
    assert re.search(
        r"groups\.app_hosts: found no host in .*/inventory, expected at least one host in the", done.stdout
    )


def test_a_secret_that_opens_with_the_example_password_is_warned_of(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP + "    secrets:\n      API_TOKEN: " + inventory.vaulted(VALUE))
    own = inventory.check("--vault-password-file", str(inventory.password_file))
    assert (own.returncode, own.stderr) == (0, "")
    inventory.password_file = ROOT / "inventories" / "example-vault-password"
    inventory.write(APPS_FILE, APP + "    secrets:\n      API_TOKEN: " + inventory.vaulted(VALUE))
    done = inventory.check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("open with the example password, which everyone can read") == 1


def test_a_secret_in_clear_text_is_warned_of_without_being_shown(inventory: Inventory) -> None:
    inventory.write(
        APPS_FILE, APP + f"    secrets:\n      API_TOKEN: {VALUE}\n      OTHER: '{{{{ token }}}}'\ntoken: {VALUE}\n"
    )
    done = inventory.check("-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"apps\.yml:.* is a secret .*", " ".join(done.stderr.split())) == [
        "apps.yml:7: apps[0].secrets.API_TOKEN is a secret in clear text: encrypt it with ansible-vault"
    ]
    assert VALUE not in done.stdout + done.stderr


def test_what_roles_are_told_is_checked_where_it_is_written_before_a_host_is_contacted(inventory: Inventory) -> None:
    inventory.write(APPS_FILE, APP)
    inventory.write(
        "group_vars/all/roles.yml", "base_audit: maybe\nssh_allow_grups: [sudo]\nbase_domain: example.org\n"
    )
    inventory.write("group_vars/app_hosts/nginx.yml", "nginx_worker_files: 512\nbase_upgrades_never: {a: b}\n")
    inventory.write("host_vars/two.yml", "# Of a host that is not the first.\nnode_exporter_addresses: perhaps\n")
    done = inventory.check("-e", "base_take_over=never")
    assert done.returncode == 2
    assert "No host was contacted." in done.stdout
    lines = [line.rpartition("/host_vars/")[2] for line in mistakes(done)]
    assert sorted(lines) == [
        'all/roles.yml:1: base_audit: found "maybe", expected bool',
        "all/roles.yml:2: ssh_allow_grups: found an input that no role has, expected ssh_allow_groups; a variable of your own needs another name",
        'app_hosts/nginx.yml:2: base_upgrades_never: found {"a": "b"}, expected list of str',
        'base_take_over: found "never", expected bool',
        'two.yml:2: node_exporter_addresses: found "perhaps", expected bool',
    ]


def test_a_roles_input_that_only_a_host_can_tell_and_a_name_of_the_inventorys_own_are_no_mistakes(
    inventory: Inventory,
) -> None:
    inventory.write(
        APPS_FILE,
        APP
        + "nginx_tls_cipher: mine\nnginx_tls_ciphers: '{{ nginx_tls_cipher }}'\n"
        + "nginx_worker_files: '{{ ansible_facts.memtotal_mb }}'\nbase_audit: '{{ no }}'\nno: false\n",
    )
    done = inventory.check()
    assert done.returncode == 0, done.stdout


def test_a_secret_of_a_role_that_is_wrong_is_not_shown(inventory: Inventory) -> None:
    vaulted = inventory.vaulted(VALUE).replace("      ", "  ")
    inventory.write(APPS_FILE, APP + f"nginx_worker_files: {vaulted}")
    done = inventory.check("--vault-id", f"test@{inventory.password_file}")
    assert mistakes(done) == ["all/apps.yml:6: nginx_worker_files: found a value that is not shown, expected int"]
    assert VALUE not in done.stdout + done.stderr


def test_each_place_is_read_once_however_many_hosts_it_is_about(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/app_hosts.yml").write_text("base_audit: true\n")
    (tmp_path / "hosts.yml").write_text("app_hosts: {hosts: {'s[001:100]': {}, other: {ssh_undo_s: 9}}}\n")
    loader = DataLoader()
    found = list(inputs.said(InventoryManager(loader, [str(tmp_path)]), loader, str(tmp_path / "playbooks")))
    assert [each.value for each in found if each.name == "base_audit"] == [True]
    assert [each.value for each in found if each.name == "ssh_undo_s"] == [9]
