"""What a run would do, and what it must not."""

import re
import time
from typing import Any

import pytest
from fakes import manifest_of

from praetor.documents import Http, Surveys
from praetor.host.journal import LEASE_S
from praetor.host.layout import ReleaseError
from praetor.host.processes import ALONE
from praetor.run.plan import (
    BATCH_S,
    HOST_S,
    announced,
    describe,
    describe_all,
    differences,
    lease_s,
    live_everywhere,
    needed,
    refusals,
    rollback_target,
)


def state(**changes: Any) -> Any:
    """What a survey finds of a healthy app."""
    return {
        "provisioned": True,
        "python": "cp311",
        "live": "1-a",
        "since": "2026-01-01T00:00:00Z",
        "releases": ["2-b", "1-a", "0-z"],
        "bad": {},
        "before": "0-z",
        "frozen": None,
        "leftovers": [],
        "outdated": [],
        "journal": None,
        "settled": True,
        "nginx_waits_s": 50,
        "manifest": manifest_of("1-a"),
        "share": {},
        "staged": False,
        "missing": ["aa", "bb"],
        "needed": True,
        **changes,
    }


def surveys(**hosts: Any) -> Surveys:
    return {host: {"apps": {"api": found}} for host, found in hosts.items()}


def release(**changes: Any) -> Any:
    """A release that is about to travel."""
    return {
        "app": "api",
        "id": "2-b",
        "manifest": manifest_of("2-b"),
        "commands": {"check": [], "migrate": [], "migrate_on": "once"},
        "options": {"bake_s": 15},
        "batches": [["web1"], ["web2"]],
        "places": {f"web{count}": ALONE for count in (1, 2, 3)},
        **changes,
    }


MARK = {"2-b": {"reason": "5xx", "ts": "2026-01-02T00:00:00Z"}}


def test_a_release_travels_when_one_host_needs_it() -> None:
    assert needed(release(), surveys(web1=state(needed=False), web2=state()))
    assert not needed(release(), surveys(web1=state(needed=False)))


def test_nothing_speaks_against_a_fine_release() -> None:
    assert refusals(release(), surveys(web1=state(), web2=state()), force=False) == []


def renamed(*names: str, **changes: Any) -> Any:
    """A release with other names than what is live."""
    manifest: Any = manifest_of("2-b")
    return release(manifest={**manifest, "settings": {**manifest["settings"], "server_names": [*names], **changes}})


def test_balancers_hear_of_what_they_know_an_app_by_and_of_nothing_else() -> None:
    found = surveys(web1=state(), web2=state(manifest=None))
    assert not announced(release(), found)
    assert not announced(renamed("api.example", env={"A": "1"}), found)
    assert announced(renamed("api.example", "www.example"), found)
    assert announced(renamed("api.example", health={"path": "/up", "status": 200}), found)
    assert announced(renamed("api.example", redirect_names=["old.example"]), found)
    assert announced(renamed("api.example", limits={"request_s": 60}), found)
    assert announced(release(), surveys(web1=state(manifest=None)))


def test_behind_balancers_a_release_has_a_name_that_is_live_too() -> None:
    found = surveys(web1=state(), web2=state(manifest=None))
    assert refusals(renamed("new.example"), found, force=False) == []
    assert refusals(renamed("new.example", "api.example"), found, force=False, balanced=True) == []
    [said] = refusals(renamed("new.example"), found, force=True, balanced=True)
    assert said.startswith(
        "api: found new.example in server_names and none of api.example, which is live: balancers reach"
    )
    # Processes and jobs alone have no names, and a first release nobody to differ from.
    assert refusals(renamed(), found, force=False, balanced=True) == []
    assert refusals(renamed("new.example"), surveys(web1=state(manifest=None)), force=False, balanced=True) == []


@pytest.mark.parametrize(
    ("changes", "words", "forced"),
    [
        ({"provisioned": False}, "was not provisioned for api; run playbooks/deploy.yml", True),
        ({"bad": MARK}, "2-b is marked bad since 2026-01-02T00:00:00Z: 5xx", False),
        (
            {"frozen": {"until": time.time() + 60, "by": "ann", "reason": "sale"}},
            "frozen until 20.* by ann: sale",
            False,
        ),
        ({"python": "cp39"}, "has cp39, and api was built for cp311 only", True),
    ],
)
def test_what_speaks_against_a_release_names_host_and_reason(
    changes: dict[str, Any],
    words: str,
    forced: bool,  # noqa: FBT001
) -> None:
    found = surveys(web1=state(), web2=state(**changes))
    with pytest.raises(ReleaseError, match=f"^web2: .*{words}"):
        raise ReleaseError("\n".join(refusals(release(), found, force=False)))
    assert bool(refusals(release(), found, force=True)) is forced


def test_a_dry_run_may_see_a_bare_host() -> None:
    assert refusals(release(), surveys(web1=state(provisioned=False)), force=False, planning=True) == []


def test_a_run_may_be_silent_for_the_bakes_of_all_its_batches() -> None:
    assert lease_s([release(), release(options={"bake_s": 600})]) == LEASE_S + 2 * (BATCH_S + 600) + 2 * HOST_S
    assert lease_s([]) == LEASE_S


def test_a_rollback_goes_to_what_was_live_before() -> None:
    assert rollback_target("api", surveys(web1=state(), web2=state()), "", force=False) == "0-z"


def test_a_rollback_goes_where_it_is_told() -> None:
    assert rollback_target("api", surveys(web1=state()), "2-b", force=False) == "2-b"


@pytest.mark.parametrize(
    ("one", "other", "wanted", "words"),
    [
        (
            {"before": None},
            {"before": None},
            "",
            "no host has a good release from before the live one; .*any of: 2-b, 1-a",
        ),
        ({}, {"before": "2-b"}, "", r"different releases \(web1 to 0-z, web2 to 2-b\)"),
        ({}, {"before": None}, "", "web1 to 0-z, web2 to nothing"),
        ({}, {"releases": ["1-a"]}, "2-b", "2-b is not on web2; on all hosts there are: 1-a$"),
        ({"releases": ["0-z"]}, {"releases": ["1-a"]}, "2-b", "is not on web1, web2; on all hosts there are: none"),
        ({}, {"bad": MARK}, "2-b", "2-b is marked bad on web2 since 2026-01-02T00:00:00Z: 5xx"),
    ],
)
def test_a_rollback_that_cannot_be_says_why(
    one: dict[str, Any], other: dict[str, Any], wanted: str, words: str
) -> None:
    with pytest.raises(ReleaseError, match=words):
        rollback_target("api", surveys(web1=state(**one), web2=state(**other)), wanted, force=False)


def test_force_takes_a_bad_release_and_no_absent_one() -> None:
    found = surveys(web1=state(bad=MARK))
    assert rollback_target("api", found, "2-b", force=True) == "2-b"
    with pytest.raises(ReleaseError, match="9-x is not on web1"):
        rollback_target("api", found, "9-x", force=True)


def wheels(**versions: str) -> Any:
    return {"cp311": [{"name": name, "version": text, "sha256": text * 9} for name, text in versions.items()]}


def test_equal_releases_do_not_differ() -> None:
    assert differences(manifest_of("1-a"), manifest_of("1-a"), "cp311") == []


def test_commit_packages_and_files_differ() -> None:
    old = manifest_of("1-a", wheels=wheels(flask="3.0", gone="1", same="1"), tree={"digest": "x"})
    new = manifest_of("2-b", wheels=wheels(flask="3.1", fresh="2", same="1"), tree={"digest": "y"}, commit=None)
    assert differences(old, new, "cp311") == [
        "commit cccccccccc -> (none)",
        "package flask: 3.0 (3.03.03.) -> 3.1 (3.13.13.)",
        "package fresh added: 2 (22222222)",
        "package gone removed (was 1 (11111111))",
        "files of the project changed",
    ]


def test_settings_differ_by_their_whole_names() -> None:
    old, new = manifest_of("1-a"), manifest_of("2-b")
    new["settings"] |= {"config": {"db": {"pool": 5, "on": False}}, "workers": 3}
    old["settings"] |= {"config": {}, "env": {"A": "1"}, "workers": 2}
    assert differences(old, new, "cp311") == [
        "config.db.on added: False",
        "config.db.pool added: 5",
        "env.A removed (was 1)",
        "workers: 2 -> 3",
    ]


def test_a_key_that_is_new_in_this_version_and_says_nothing_is_no_change() -> None:
    old, new = manifest_of("1-a"), manifest_of("1-b")
    new["settings"] = {**new["settings"], "mount": "", "egress": None, "data": []}
    assert differences(old, new, "cp311") == []
    new["settings"]["mount"] = "/shop"
    assert differences(old, new, "cp311") == ["mount added: /shop"]


def http(directives: str) -> Http:
    """Return how NGINX speaks with clients, with directives of the app."""
    return {"compress": True, "stream_s": 60, "paths": [], "headers": {}, "access": None, "directives": directives}


def test_a_text_of_many_lines_is_counted_and_not_shown() -> None:
    old, new = manifest_of("1-a"), manifest_of("2-b")
    old["settings"] |= {"http": http("a on;\nb on;\n")}
    new["settings"] |= {"http": http("a on;\nc on;\n")}
    [line] = differences(old, new, "cp311")
    assert re.fullmatch(r"http\.directives: 2 lines \((\w{8})\) -> 2 lines \((?!\1)\w{8}\)", line)


def test_secrets_are_named_and_never_shown() -> None:
    old = manifest_of("1-a", secrets={"GONE": "0a1b", "SAME": "ffff", "TURNED": "0c1d"})
    new = manifest_of("2-b", secrets={"NEW": "2e3f", "SAME": "ffff", "TURNED": "4a5b"})
    assert differences(old, new, "cp311") == [
        "secret GONE removed (not shown)",
        "secret NEW added (not shown)",
        "secret TURNED changed (not shown)",
    ]


def test_a_plan_says_what_happens_on_each_host() -> None:
    new = release(manifest=manifest_of("2-b", commit="d" * 40, dirty=True))
    found = surveys(
        web1=state(needed=False, live="2-b"),
        web2=state(journal={}),
        web3=state(staged=True, leftovers=["x"]),
        web4=state(live=None, manifest=None, provisioned=False),
    )
    assert describe(new, found).splitlines() == [
        "api: release 2-b (from app, commit dddddddddd and changes that are not committed)",
        "  web1: live since 2026-01-01T00:00:00Z; nothing to do",
        "  web2: 1-a -> 2-b; stage (2 files to send), gate, flip and bake 15 s, settle",
        "  web3: 1-a -> 2-b; repair what an interrupted run left, gate, flip and bake 15 s, settle",
        "  web4: nothing live -> 2-b; provision the host, stage (2 files to send), gate, flip and bake 15 s, settle",
        "    commit cccccccccc -> dddddddddd",
    ]


@pytest.mark.parametrize(("where", "words"), [("once", "migrate (one host)"), ("each", "migrate (each host)")])
def test_a_plan_names_the_migration(where: str, words: str) -> None:
    new = release(commands={"check": [], "migrate": [["x"]], "migrate_on": where})
    assert words in describe(new, surveys(web1=state()))


def test_a_plan_that_uses_the_projects_words_says_where_they_are_explained() -> None:
    assert "docs/glossary.md" in describe_all([release()], surveys(web1=state(needed=False), web2=state()))
    assert "docs/glossary.md" not in describe_all([release()], surveys(web1=state(needed=False)))


def test_a_plan_says_where_a_stop_would_not_wait_for_the_longest_request() -> None:
    manifest = manifest_of("2-b")
    manifest["settings"]["limits"]["request_s"] = 300
    said = describe(release(manifest=manifest), surveys(web1=state(nginx_waits_s=50), web2=state(nginx_waits_s=320)))
    assert "web1: when NGINX is stopped it waits 50 s for requests" in said
    assert "web2: when NGINX" not in said


def test_a_refresh_takes_what_is_live_everywhere() -> None:
    assert live_everywhere("api", surveys(web1=state(), web2=state())) == "1-a"


@pytest.mark.parametrize("other", ["2-b", None])
def test_a_refresh_of_hosts_that_differ_is_refused(other: str | None) -> None:
    with pytest.raises(ReleaseError, match=rf"web1: 1-a, web2: {other or 'nothing'}\)\. playbooks/release\.yml"):
        live_everywhere("api", surveys(web1=state(), web2=state(live=other)))


def test_the_plan_says_why_a_live_release_is_started_again() -> None:
    found = describe(release(id="1-a"), surveys(web1=state(outdated=["uWSGI was changed"])))
    assert "1-a -> 1-a; start it again, because uWSGI was changed" in found
