"""Queues and caches: what an entry may ask for, what an inventory must have, what an app finds, and how the host's program speaks with instances."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jinja2
import pytest
from ansible.errors import AnsibleFilterError
from project import ROOT, imported

from praetor.documents import Entry
from praetor.inventory.check import check_apps
from praetor.inventory.egress import with_services
from praetor.inventory.redis import instances, mistakes, variables
from praetor.run import redis as told

GROUPS = {"app_hosts": ["app1", "app2"], "redis_hosts": ["q1"]}
HOSTVARS = {
    "app1": {"ansible_host": "192.0.2.11"},
    "app2": {"ansible_host": "192.0.2.12"},
    "q1": {"ansible_host": "192.0.2.51"},
}
BOTH = {"queue": True, "cache": True}


def given(**more: Any) -> dict[str, Any]:
    """Return an entry as people write it."""
    source = {"path": "molecule/releases/sample"}
    return {"name": "shop", "source": source, "wsgi": "sample:app", "server_names": ["shop.example"], **more}


def entry(**more: Any) -> Entry:
    """Return an app as the inventory's check returns it."""
    checked = check_apps([given(**more)], ROOT)
    assert checked.problems == []
    return checked.apps[0]


def test_a_queue_and_a_cache_are_two_instances_of_the_app_alone() -> None:
    queue, cache = instances([entry(redis={**BOTH, "queue_mb": 64})])
    assert (queue["name"], queue["app"], queue["memory_mb"]) == ("shop-queue", "shop", 64)
    assert (cache["name"], cache["app"], cache["memory_mb"]) == ("shop-cache", "shop", 128)
    assert cache["port"] == queue["port"] + 1
    assert instances([entry()]) == []


def test_a_port_depends_on_the_apps_name_and_on_no_other_app() -> None:
    shop, blog = entry(redis=BOTH), entry(name="blog", server_names=["blog.example"], redis={"cache": True})
    both = {one["name"]: one["port"] for one in instances([blog, shop])}
    alone = {one["name"]: one["port"] for one in instances([shop])}
    assert alone.items() <= both.items()
    assert all(20_000 <= port <= 29_999 for port in both.values())
    (cache,) = instances([entry(redis={"cache": True, "port": 20_100})])
    assert cache["port"] == 20_101


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["queue"], "expected a mapping with queue: true, cache: true or both"),
        ({}, "apps[0].redis: found neither queue nor cache, expected queue: true, cache: true or both"),
        ({"queue": False}, "found neither queue nor cache"),
        ({"queue": True, "cache_mb": 64}, "apps[0].redis.cache_mb: found 64 without cache, expected cache: true"),
        ({"queeu": True}, "did you mean queue?"),
        ({"queue": "yes"}, "apps[0].redis.queue: found"),
        ({"queue": True, "queue_mb": 1}, "apps[0].redis.queue_mb: found 1, expected a whole number from 16 to 65536"),
        ({"queue": True, "port": 6379}, "apps[0].redis.port: found 6379, expected a whole number from 20000 to 29998"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(asked: object, said: str) -> None:
    assert said in "\n".join(map(str, check_apps([given(redis=asked)], ROOT).problems))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"redis_hosts": []}, "groups.redis_hosts: found no host, expected one: what shop asks for"),
        ({"redis_hosts": ["q1", "q2"]}, "groups.redis_hosts: found q1, q2, expected one host"),
        ({"redis_hosts": ["app1"]}, "found app1, which is in app_hosts too, expected a separate host"),
        ({"database_hosts": ["q1"]}, "found q1, which is in database_hosts too"),
        ({"monitoring_hosts": ["q1"]}, "found q1, which is in monitoring_hosts too"),
    ],
)
def test_hosts_that_do_not_fit_are_refused(changed: dict[str, list[str]], said: str) -> None:
    assert said in "\n".join(mistakes([entry(redis=BOTH)], {**GROUPS, **changed}))


def test_an_inventory_that_fits_has_no_mistake() -> None:
    assert mistakes([entry(redis=BOTH)], GROUPS) == []
    assert mistakes([entry()], {"app_hosts": ["app1"]}) == []
    assert mistakes([entry()], GROUPS) == [], "a Redis host may wait for its first app"


def test_two_apps_with_one_port_are_told_another_one() -> None:
    shop = entry(redis={"queue": True, "port": 20_000})
    blog = entry(name="blog", server_names=["blog.example"], redis={"queue": True, "port": 20_000})
    (said,) = mistakes([shop, blog], GROUPS)
    assert (
        said
        == "app blog: found port 20000 for blog-queue, which shop-queue has, expected another redis.port, such as 20002"
    )
    over = entry(name="blog", server_names=["blog.example"], redis={"cache": True, "port": 20_000})
    shop_cache = entry(redis={"queue": True, "port": 20_001})
    assert "found port 20001" in "".join(mistakes([shop_cache, over], GROUPS))


@pytest.mark.parametrize("name", ["REDIS_URL", "RQ_REDIS_URL", "CELERY_BROKER_URL", "CACHE_URL"])
def test_a_variable_that_the_key_sets_is_no_other_setting(name: str) -> None:
    (said,) = mistakes([entry(redis=BOTH, env={name: "x"})], GROUPS)
    assert said == f"app shop: found {name} among its variables, expected other names: `redis` sets them"
    assert mistakes([{**entry(redis=BOTH), "config_secrets": [name]}], GROUPS) == [said]
    assert mistakes([entry(redis={"queue": True}, env={"CACHE_URL": "x"})], GROUPS) == [], "no cache was asked for"


def test_an_address_demands_tls_and_names_whom_to_trust() -> None:
    queue, cache = instances([entry(redis=BOTH)])
    found = variables(queue, "p/w", "192.0.2.51")
    assert set(found) == {"REDIS_URL", "RQ_REDIS_URL", "CELERY_BROKER_URL"}
    url = urlsplit(found["REDIS_URL"])
    assert (url.scheme, url.username, url.password, url.port) == ("rediss", "shop", "p%2Fw", queue["port"])
    assert parse_qs(url.query) == {
        "ssl_cert_reqs": ["required"],
        "ssl_ca_certs": ["/etc/praetor/tls/host/authority.pem"],
        "ssl_check_hostname": ["true"],
    }
    assert urlsplit(variables(cache, "x", "2001:db8::1")["CACHE_URL"]).hostname == "2001:db8::1"


def test_an_app_without_egress_of_its_choice_still_reaches_what_it_asks_for() -> None:
    closed = entry(redis=BOTH, egress=[])
    (found,) = with_services([closed], GROUPS, HOSTVARS)
    ports = [one["port"] for one in instances([closed])]
    assert found["egress"] == [{"to": ["192.0.2.51"], "ports": ports, "protocol": "tcp"}]
    (open_one,) = with_services([entry(redis=BOTH)], GROUPS, HOSTVARS)
    assert open_one["egress"] is None


def test_a_redis_host_lets_app_hosts_in_to_its_instances_and_nobody_else() -> None:
    wiring = imported("plugins/filter/wiring.py")
    apps = [entry(redis=BOTH)]
    ports = [one["port"] for one in instances(apps)]
    (allowed,) = wiring.redis_allow(apps, GROUPS, HOSTVARS)
    assert (allowed["ports"], allowed["from"]) == (ports, ["192.0.2.11", "192.0.2.12"])
    assert wiring.redis_allow([entry()], GROUPS, HOSTVARS) == []


def test_a_release_needs_the_passwords_that_provisioning_makes() -> None:
    wiring = imported("plugins/filter/wiring.py")
    asked = instances([entry(redis={"queue": True})])
    found = wiring.with_redis({"shop": {"A": "b"}}, asked, {"shop-queue": "x"}, GROUPS, HOSTVARS)
    assert found["shop"]["A"] == "b"
    assert found["shop"]["REDIS_URL"].startswith(f"rediss://shop:x@192.0.2.51:{asked[0]['port']}/0?")
    with pytest.raises(AnsibleFilterError, match="its queue is not made yet"):
        wiring.with_redis({}, asked, {}, GROUPS, HOSTVARS)


def test_prometheus_asks_the_exporter_for_each_instance() -> None:
    monitoring = imported("plugins/filter/monitoring.py")
    queue, cache = monitoring.redis_targets(["q1"], HOSTVARS, [entry(redis=BOTH)])
    assert queue["targets"] == cache["targets"] == ["192.0.2.51:9443"]
    assert (queue["labels"]["app"], queue["labels"]["keeps"], cache["labels"]["keeps"]) == ("shop", "queue", "cache")
    assert queue["labels"]["__param_target"] == f"rediss://192.0.2.51:{instances([entry(redis=BOTH)])[0]['port']}"
    endpoint = monitoring.metrics_endpoint("q1", {**GROUPS, "monitoring_hosts": ["mon1"]}, HOSTVARS)
    assert endpoint["sources"]["redis"] == "127.0.0.1:9121/scrape"


def rendered(template: str, **item: object) -> list[str]:
    """Return the lines of one of the role's templates."""
    text = (ROOT / "roles/redis/templates" / template).read_text(encoding="utf-8")
    names = {
        "__redis_tls": "/tls",
        "__redis_settings": "/etc/redis",
        "__redis_data": "/var/lib/redis",
        "redis_fsync": "always",
    }
    one = {"name": "shop-queue", "app": "shop", "keeps": "queue", "port": 20_000, "memory_mb": 64, **item}
    environment = jinja2.Environment(trim_blocks=True)  # noqa: S701  # no HTML
    return environment.from_string(text).render(item=one, **names).splitlines()


def test_a_queue_drops_nothing_and_is_on_disk_and_a_cache_neither() -> None:
    queue, cache = rendered("redis.conf"), rendered("redis.conf", name="shop-cache", keeps="cache")
    assert {"maxmemory-policy noeviction", "appendonly yes", "appendfsync always"} <= set(queue)
    assert {"maxmemory-policy allkeys-lru", "appendonly no", "oom-score-adj-values 500 500 500"} <= set(cache)
    for lines in (queue, cache):
        assert {"port 0", "tls-port 20000", "tls-protocols TLSv1.3", 'save ""'} <= set(lines)


@pytest.fixture(name="program")
def _program() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("redis_instance", str(ROOT / "roles/redis/files/redis-instance"))
    spec = importlib.util.spec_from_loader("redis_instance", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(name="host")
def _host(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Make the files of one instance, and a redis-cli that notes what it is asked; the test says what it answers."""
    for template in ("redis.conf", "memory.conf"):
        path = tmp_path / "shop-queue" / template
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(rendered(template)) + "\n", encoding="utf-8")
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    monkeypatch.setattr(program, "SETTINGS", tmp_path)
    monkeypatch.setattr(program, "PASSWORD", tmp_path / "password")
    return []


def answer(monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], code: int, text: str) -> None:
    """Let redis-cli answer so."""

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        assert how["env"]["REDISCLI_AUTH"] == "secret"
        assert "secret" not in command
        asked.append(command)
        return subprocess.CompletedProcess(command, code, text, "")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_reload_brings_certificates_memory_and_users(
    program: ModuleType, host: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, host, 0, "OK\n")
    assert program.reload("shop-queue") == 0
    changed, users = host
    assert changed[changed.index("CONFIG") :] == [
        *("CONFIG", "SET", "tls-cert-file", "/tls/cert.pem", "tls-key-file", "/tls/key.pem"),
        *("tls-ca-cert-file", "/tls/authority.pem", "maxmemory", "64mb"),
    ]
    assert users[-2:] == ["ACL", "LOAD"]


def test_a_reload_that_is_refused_fails(
    program: ModuleType, host: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, host, 1, "ERR Unable to update TLS configuration\n")
    assert program.reload("shop-queue") == 1
    assert capsys.readouterr().err == "shop-queue: CONFIG SET: ERR Unable to update TLS configuration\n"


INFO = """# Memory
used_memory:888000
maxmemory:67108864
connected_clients:3
aof_enabled:1
aof_last_write_status:err
evicted_keys:0
errorstat_OOM:count=7
db0:keys=12,expires=0,avg_ttl=0
db1:keys=1,expires=1,avg_ttl=5
db0_distrib_strings_sizes:1=3,16=9
"""


def test_what_an_instance_has_is_told_as_json(
    program: ModuleType, host: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, host, 0, INFO)
    monkeypatch.setattr("sys.argv", ["redis-instance", "show"])
    assert program.main() == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["port"], found["keys"], found["refused"], found["written"]) == (
        "shop-queue",
        20_000,
        13,
        7,
        False,
    )
    answer(monkeypatch, host, 1, "Could not connect\n")
    assert program.show("shop-queue") == {"name": "shop-queue", "keeps": "queue", "port": 20_000}


def test_status_shows_each_instance_and_what_is_wrong_with_it() -> None:
    well: told.Seen = {
        "name": "shop-queue",
        "keeps": "queue",
        "port": 20_000,
        "used_bytes": 2**24,
        "limit_bytes": 2**26,
        "clients": 3,
        "keys": 12,
        "evicted": 0,
        "refused": 0,
        "written": True,
    }
    assert told.rows({"q1": [well]}) == [
        {"host": "q1", "redis": "shop-queue", "state": "up", "memory": "25% of 64 MiB", "keys": 12, "clients": 3}
    ]
    assert told.notes({"q1": [well]}) == []
    assert told.notes({"q1": [{**well, "written": False}]}) == [
        "q1: shop-queue cannot be written to disk: docs/runbooks/RedisNotOnDisk.md"
    ]
    assert "refuses jobs" in told.notes({"q1": [{**well, "used_bytes": 2**26}]})[0]
    assert told.notes({"q1": [{**well, "keeps": "cache", "used_bytes": 2**26}]}) == [], "what a full cache is for"
    silent: told.Seen = {"name": "shop-queue", "keeps": "queue", "port": 20_000}
    assert told.rows({"q1": [silent]})[0]["state"] == "no answer"
    assert told.rows({"q1": None})[0]["redis"] == "no answer"
    assert len(told.notes({"q1": [silent], "q2": None})) == 2
