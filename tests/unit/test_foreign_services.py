"""A host that works for somebody else is not taken over without a word."""

import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from praetor.host import foreign_services, login
from praetor.host.foreign_services import foreign_sites, is_ours, listeners, locked_out, open_ports, taken
from praetor.host.layout import ReleaseError

SS = """\
LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("apache2",pid=7,fd=3))
LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))
LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=1,fd=4))
LISTEN 0 80 127.0.0.1:3306 0.0.0.0:* users:(("mariadbd",pid=9,fd=3))
LISTEN 0 80 [::1]:5432 [::]:* users:(("postgres",pid=9,fd=3))
LISTEN 0 80 *:5432 *:* users:(("postgres",pid=9,fd=5))
LISTEN 0 80 127.0.0.53%lo:53 0.0.0.0:*
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Path:
    """Return NGINX's directory as Debian leaves it."""
    for folder in ("sites-enabled", "conf.d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "nginx.conf").write_text("user www-data;\n")
    return tmp_path


def test_a_site_of_somebody_else_is_named_with_its_names(nginx: Path) -> None:
    (nginx / "sites-enabled/legacy").write_text("server { listen 80; server_name shop.example www.shop.example; }\n")
    (nginx / "conf.d/gzip.conf").write_text("gzip on;  # server { }\n")
    [line] = foreign_sites(nginx)
    assert line == f"NGINX's site {nginx}/sites-enabled/legacy (shop.example, www.shop.example) would be served no more"


def test_debians_welcome_page_and_our_own_sites_are_nobodys_loss(nginx: Path) -> None:
    (nginx / "sites-enabled/default").symlink_to("/etc/nginx/sites-available/default")
    assert foreign_sites(nginx) == []
    (nginx / "sites-enabled/legacy").write_text("server { server_name shop.example; }\n")
    (nginx / "nginx.conf").write_text("# Managed by Ansible: roles/nginx. Changes here are overwritten.\n")
    assert foreign_sites(nginx) == []
    assert foreign_sites(nginx / "absent") == []


def test_open_ports_are_those_that_others_reach() -> None:
    assert listeners(SS) == {80: "apache2", 22: "sshd", 5432: "postgres"}
    assert open_ports(listeners(SS), [22, 80, 443]) == ["port 5432 (postgres) would be closed by the firewall"]
    assert open_ports(listeners(SS), [22, 80, 443, 5432]) == []


def test_who_holds_the_ports_of_sites_is_named() -> None:
    [line] = taken(listeners(SS), [22, 80, 443])
    assert line.startswith("port 80 is taken by apache2, and NGINX needs it")
    assert taken(listeners(SS.replace("apache2", "nginx")), [80]) == []
    assert taken(listeners(SS), [22]) == []


def test_haproxy_is_no_stranger_on_a_balancer_of_this_project(tmp_path: Path) -> None:
    listening, config = listeners(SS.replace("apache2", "haproxy")), tmp_path / "haproxy.cfg"
    config.write_text("# Somebody's own\n")
    assert taken(listening, [80], config)
    config.write_text("# Managed by Ansible: roles/haproxy. Changes here are overwritten.\n")
    assert taken(listening, [80], config) == []


def test_users_who_could_not_log_in_any_more_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def user(name: str, number: int, shell: str = "/bin/bash", *, key: bool = True) -> Any:
        home = tmp_path / name
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA\n" if key else "\n")
        return pwd.struct_passwd((name, "x", number, number, "", str(home), shell))

    users = [user("root", 0), user("ann", 1000), user("bob", 1001), user("git", 1002, "/usr/sbin/nologin")]
    users.append(user("eve", 1003, key=False))
    monkeypatch.setattr("praetor.host.foreign_services.pwd.getpwall", lambda: users)
    monkeypatch.setattr(
        "praetor.host.foreign_services.os.getgrouplist", lambda name, gid: [gid, 27] if name == "ann" else [gid]
    )
    monkeypatch.setattr(
        "praetor.host.foreign_services.grp.getgrall", lambda: [type("G", (), {"gr_name": "sudo", "gr_gid": 27})()]
    )
    assert locked_out(["sudo"]) == [
        "root could not log in by SSH any more",
        "user bob could not log in by SSH any more: in none of the groups sudo",
    ]


def test_a_file_that_does_not_say_who_wrote_it_is_not_ours(tmp_path: Path) -> None:
    assert not is_ours(tmp_path / "absent")
    (tmp_path / "other").write_text("flush ruleset\n")
    assert not is_ours(tmp_path / "other")


@pytest.mark.parametrize(
    ("blocked", "lost", "take_over", "said"),
    [
        ([], [], False, None),
        ([], ["the shop"], True, None),
        ([], ["the shop"], False, ["Nothing was changed on it.", "the shop", "-e base_take_over=true"]),
        (["port 80"], ["the shop"], True, ["Nothing was changed on it.", "port 80", "the shop"]),
    ],
)
def test_a_host_is_taken_over_only_where_that_is_meant_and_possible(
    blocked: list[str], lost: list[str], take_over: object, said: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"taken": blocked, "foreign_sites": lost, "open_ports": [], "locked_out": []}.items():
        monkeypatch.setattr(foreign_services, name, lambda *_, value=value: list(value))
    monkeypatch.setattr(
        foreign_services, "subprocess", SimpleNamespace(run=lambda *_, **__: SimpleNamespace(stdout=""))
    )
    asked: dict[str, Any] = {"check": False, "ports": [80], "groups": ["sudo"], "take_over": take_over}
    if said is None:
        assert foreign_services.work(**asked) == {"changed": False}
        return
    with pytest.raises(ReleaseError) as refused:
        foreign_services.work(**asked)
    lines = str(refused.value).splitlines()
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))


def test_rules_that_would_lock_out_who_brings_them_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "groups_of", {"ops": ["ops", "sudo"], "root": ["root", "sudo"]}.__getitem__)
    monkeypatch.setenv("SUDO_USER", "ops")
    assert login.work(check=False, groups=["sudo"]) == {"user": "ops"}
    with pytest.raises(
        ReleaseError, match=r"found admins, expected a group of ops, .* logs in as .ops, sudo.*Nothing was changed"
    ):
        login.work(check=False, groups=["admins"])
    monkeypatch.delenv("SUDO_USER")
    with pytest.raises(ReleaseError, match="this role locks root out"):
        login.work(check=False, groups=["sudo"], user="root")
    with pytest.raises(ReleaseError, match="does not know who has logged in"):
        login.work(check=False, groups=["sudo"], user="nobody_here")
