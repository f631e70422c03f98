"""What apps, database hosts and backup hosts mean for each other, before any host is contacted."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleFilterError
from project import ROOT, imported

from praetor.documents import Entry
from praetor.inventory.check import check_apps
from praetor.inventory.databases import RESERVED, mistakes, variables, wanted, warnings

FILTERS = imported("plugins/filter/databases.py")

GROUPS = {"app_hosts": ["app1", "app2"], "database_hosts": ["db1", "db2"], "backup_hosts": ["backup1"]}


def entry(**more: Any) -> Entry:
    """Return an app as the inventory's check returns it."""
    source = {"path": "molecule/releases/sample"}
    given = {"name": "shop", "source": source, "wsgi": "sample:app", "server_names": ["shop.example"], **more}
    checked = check_apps([given], ROOT)
    assert checked.problems == []
    return checked.apps[0]


def problem(**more: Any) -> str:
    """Return what the check says about an entry."""
    source = {"path": "molecule/releases/sample"}
    given = {"name": "shop", "source": source, "wsgi": "sample:app", "server_names": ["shop.example"], **more}
    return "\n".join(map(str, check_apps([given], ROOT).problems))


def test_one_word_gives_an_app_a_database_named_after_it() -> None:
    app = entry(database=True, workers=2, threads=4)
    assert wanted([app], 3) == [{"app": "shop", "name": "shop", "connections": 3 * 2 * 4 * 2 + 5, "extensions": []}]


def test_an_app_may_say_name_connections_and_extensions() -> None:
    app = entry(database={"name": "wares", "connections": 7, "extensions": ["pg_trgm"]})
    assert wanted([app], 3) == [{"app": "shop", "name": "wares", "connections": 7, "extensions": ["pg_trgm"]}]


@pytest.mark.parametrize("more", [{}, {"database": False}, {"database": None}])
def test_an_app_without_the_word_has_no_database(more: dict[str, Any]) -> None:
    app = entry(**more)
    assert wanted([app], 3) == []
    assert mistakes([app], {"app_hosts": ["app1"]}, 1) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("yes", "expected true, false, or a mapping with the keys name, connections, extensions"),
        (1, "apps[0].database: found"),
        (
            {"nmae": "x"},
            "apps[0].database.nmae: found an unknown key, expected one of name, connections, extensions; did you mean name?",
        ),
        ({"name": "postgres"}, "the name of a system user or group"),
        ({"connections": 1}, "apps[0].database.connections: found 1, expected a whole number from 2 to 10000"),
        ({"extensions": ["pg trgm"]}, "apps[0].database.extensions[0]"),
    ],
)
def test_what_is_no_database_is_refused(given: object, said: str) -> None:
    assert said in problem(database=given)


def test_an_app_with_a_database_needs_a_host_for_it() -> None:
    (line,) = mistakes([entry(database=True)], {"app_hosts": ["app1"]}, 200)
    assert line.startswith("groups.database_hosts: found no host, expected at least one: the database of shop")


@pytest.mark.parametrize(("hosts", "refused"), [([], True), (["db1"], True), (["db1", "db2"], False)])
def test_writes_that_nobody_would_acknowledge_are_refused(hosts: list[str], *, refused: bool) -> None:
    found = mistakes([], {"database_hosts": hosts}, 100, synchronous=True)
    assert ["postgresql_synchronous: found true with" in line for line in found] == [True] * refused
    assert mistakes([], {"database_hosts": hosts}, 100) == []


def test_connections_of_all_apps_are_added_up() -> None:
    apps = [
        entry(database={"connections": 60}),
        entry(name="blog", server_names=["b.example"], database={"connections": 70}),
    ]
    assert mistakes(apps, GROUPS, 130 + RESERVED) == []
    (line,) = mistakes(apps, GROUPS, 130 + RESERVED - 1)
    assert line.startswith(
        f"postgresql_max_connections: found {129 + RESERVED}, expected at least {130 + RESERVED}: shop 60, blog 70"
    )


def test_two_apps_do_not_share_a_database() -> None:
    apps = [entry(database=True), entry(name="blog", server_names=["b.example"], database={"name": "shop"})]
    assert "found the database shop at shop and at blog" in mistakes(apps, GROUPS, 500)[0]


def test_a_database_is_not_named_as_the_hosts_own() -> None:
    assert "found the database standby" in mistakes([entry(database={"name": "standby"})], GROUPS, 500)[0]


@pytest.mark.parametrize("part", [{"env": {"PGHOST": "elsewhere"}}, {"secrets": {"DATABASE_URL": "x"}}])
def test_a_variable_that_the_database_sets_is_not_the_apps_to_set(part: dict[str, Any]) -> None:
    app = entry(database=True, **part)
    app["config_secrets"] = list(part.get("secrets", {}))
    (line,) = mistakes([app], GROUPS, 500)
    assert "expected other names: `database` sets them" in line


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"backup_hosts": ["db1"]}, "found db1, which is in database_hosts too"),
        ({"backup_hosts": ["b1", "b2"]}, "found b1, b2, expected one host"),
        ({"database_hosts": ["app1"]}, "found app1, which is in database_hosts or backup_hosts too"),
    ],
)
def test_hosts_whose_loss_would_take_both_are_refused(groups: dict[str, list[str]], said: str) -> None:
    assert said in "\n".join(mistakes([entry()], GROUPS | groups, 500))


@pytest.mark.parametrize(
    "more",
    [
        {"env": {"DB": "sqlite:////srv/apps/shop/data/shop.db"}},
        {"config": {"database": {"url": "sqlite:///items.db"}}},
        {"commands": {"migrate": ["python m.py"], "migrate_on": "each"}},
    ],
)
def test_files_that_several_hosts_keep_apart_are_warned_of(more: dict[str, Any]) -> None:
    app = entry(**more)
    (line,) = warnings([app], {"app_hosts": ["app1", "app2"]})
    assert line.startswith("app shop keeps ")
    assert warnings([app], {"app_hosts": ["app1"]}) == []
    assert warnings([{**app, "database": entry(database=True)["database"]}], {"app_hosts": ["app1", "app2"]}) == []


def test_databases_without_a_backup_are_warned_of() -> None:
    assert "no backup" in warnings([], {"database_hosts": ["db1"]})[0]
    assert warnings([], GROUPS) == []


def test_an_app_finds_the_primary_among_all_hosts_and_believes_no_other() -> None:
    found = variables("shop", "p:w@/", ["192.0.2.1", "2001:db8::2"])
    url = urlsplit(found["DATABASE_URL"])
    asked = {key: value for key, (value,) in parse_qs(url.query).items()}
    assert (url.scheme, url.username, url.password, url.path) == ("postgresql", "shop", "p%3Aw%40%2F", "/shop")
    assert asked["host"] == found["PGHOST"] == "192.0.2.1,2001:db8::2"
    for option, variable in (
        ("sslmode", "PGSSLMODE"),
        ("target_session_attrs", "PGTARGETSESSIONATTRS"),
        ("channel_binding", "PGCHANNELBINDING"),
    ):
        assert asked[option] == found[variable]
    assert (asked["sslmode"], asked["target_session_attrs"], asked["channel_binding"]) == (
        "verify-full",
        "read-write",
        "require",
    )


def test_a_single_host_stands_where_every_reader_of_a_url_looks_for_it() -> None:
    assert urlsplit(variables("shop", "x", ["192.0.2.1"])["DATABASE_URL"]).hostname == "192.0.2.1"
    assert urlsplit(variables("shop", "x", ["2001:db8::2"])["DATABASE_URL"]).hostname == "2001:db8::2"


def test_hosts_are_known_by_address_and_by_what_their_certificate_says() -> None:
    wiring = imported("plugins/filter/wiring.py")
    hosts = {"db1": {"ansible_host": "192.0.2.1"}, "localhost": {}}
    assert wiring.reached_as(list(hosts), hosts) == {"db1": "192.0.2.1", "localhost": "localhost"}
    assert wiring.named_addresses(["db1"], hosts) == {"db1": "192.0.2.1"}


def test_databases_take_apps_and_each_other_and_nobody_else() -> None:
    wiring = imported("plugins/filter/wiring.py")
    hosts = {
        name: {"ansible_host": f"192.0.2.{number}"}
        for number, name in enumerate(["app1", "app2", "db1", "db2", "backup1"], 1)
    }
    allowed = {
        host: {
            port: rule["from"]
            for rule in wiring.firewall_allow(host, GROUPS, hosts)
            if "from" in rule
            for port in rule["ports"]
        }
        for host in hosts
    }
    assert allowed["db1"] == {5432: ["192.0.2.1", "192.0.2.2", "192.0.2.4"], 8432: ["192.0.2.5"]}
    assert allowed["backup1"] == {8432: ["192.0.2.3", "192.0.2.4"], 8433: ["192.0.2.1", "192.0.2.2"]}
    assert allowed["app1"] == {9443: ["192.0.2.2"]}, "each other, for what runs once"


def test_a_release_before_the_database_is_made_says_what_to_type() -> None:
    wiring = imported("plugins/filter/wiring.py")
    asked = wiring.databases([entry(database=True)], GROUPS)
    hosts = {"db1": {"ansible_host": "192.0.2.1"}, "db2": {}}
    with pytest.raises(AnsibleFilterError, match=r"(?s)shop: its database is not made yet.*provision\.yml"):
        wiring.with_databases({}, asked, {}, GROUPS, hosts)
    given = {"shop": {"TOKEN": "t"}}
    found = wiring.with_databases(given, asked, {"shop": "x"}, GROUPS, hosts)
    assert found["shop"]["PGHOST"] == "192.0.2.1,db2"
    assert (found["shop"]["TOKEN"], given) == ("t", {"shop": {"TOKEN": "t"}})


@pytest.mark.parametrize(
    ("found", "primaries", "primary"),
    [
        ({"db1": "none", "db2": "none"}, [], "db1"),
        ({"db1": "none", "db2": "primary"}, ["db2"], "db2"),
        ({"db1": "standby", "db2": "primary"}, ["db2"], "db2"),
        ({"db1": "standby", "db2": "none"}, [], ""),
        ({"db1": "primary", "db2": "primary"}, ["db1", "db2"], "db1"),
        ({}, [], ""),
    ],
)
def test_the_primary_is_who_takes_writes_or_the_first_host_of_all_that_are_new(
    found: dict[str, str], primaries: list[str], primary: str
) -> None:
    variables = {
        host: {"seen": {"primary": state == "primary", "exists": state != "none"}} for host, state in found.items()
    }
    assert FILTERS.cluster_of(list(found), variables, "seen") == {"primaries": primaries, "primary": primary}


def test_hosts_have_slots_of_names_that_postgresql_takes_and_one_release_of_debian() -> None:
    assert FILTERS.replication_slots(["DB-1.example", "db_2"]) == ["db_1_example", "db_2"]
    facts = {"db1": {"ansible_facts": {"distribution_major_version": "13"}}}
    assert FILTERS.debian_of(["db1"], facts) == {"db1": "13"}
    assert FILTERS.only({"a": "1", "b": "2"}, ["b", "c"]) == {"b": "2"}
    assert FILTERS.all_but({"a": "1", "b": "2"}, "a") == {"b": "2"}
