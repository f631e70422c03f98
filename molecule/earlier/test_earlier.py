"""What an operator does to take hosts of an earlier version over, in this order, and what clients may notice of it: nothing."""

from __future__ import annotations

from fleet import Fleet


def test_provision(fleet: Fleet) -> None:
    # NGINX is taken over with the slot that serves, and not restarted.
    masters = [host.run("systemctl show --property=MainPID nginx") for host in fleet.hosts]
    fleet.run("provision").must_end(well=True)
    assert [host.run("systemctl show --property=MainPID nginx") for host in fleet.hosts] == masters


def test_provision_again_changes_nothing(fleet: Fleet) -> None:
    said = fleet.run("provision").must_end(well=True)
    assert "changed=0" in said or "nothing" in said, said


def test_status_sees_what_serves(fleet: Fleet) -> None:
    said = fleet.run("status").must_end(well=True)
    assert said.count("healthy") == len(fleet.hosts), said


def test_broken_first_release(fleet: Fleet) -> None:
    fleet.refuse(
        fleet.variant("import"), "gate failed on app1, app2", "No module named 'a_module_that_nobody_installed'"
    )


def test_first_release_that_fails_under_traffic(fleet: Fleet) -> None:
    variant = fleet.variant("traffic")
    fleet.refuse(variant, "flip failed on app1", "were answered with 5xx", f"{fleet.past[-1].split()[0]} serves again")
    fleet.step.excuse(lambda it: it.status == 500 and it.said.startswith(variant.prefix))
    fleet.step.may_serve(variant)


def test_first_release(fleet: Fleet) -> None:
    fleet.release(fleet.variant())
    for host in fleet.hosts:
        assert host.run("systemctl is-active uwsgi-emperor.service", check=False).strip() != "active"


def test_way_back_to_the_earlier_version_is_refused(fleet: Fleet) -> None:
    before = [host.look()["live"] for host in fleet.hosts]
    fleet.run("rollback").must_end("was made by an earlier version", "what is live goes on serving", well=False)
    assert [host.look()["live"] for host in fleet.hosts] == before


def test_second_release(fleet: Fleet) -> None:
    fleet.release(fleet.variant())


def test_rollback(fleet: Fleet) -> None:
    fleet.roll_back(fleet.past[-2])
