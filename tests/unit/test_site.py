"""NGINX's half of a release: in effect from the flip on, taken back with it, and never half."""

import socket
from pathlib import Path
from typing import Any

import pytest
from fakes import Server, a_run, await_slot, put_release, put_slot

from praetor.host import settle as settles
from praetor.host import site as sites
from praetor.host.flip import Limits, flip_and_bake
from praetor.host.journal import append, phase, save, unlock
from praetor.host.layout import AppHost, BakeError, ReleaseError, Slot
from praetor.host.removal import work as removal
from praetor.host.survey import survey

CALM = Limits(bake_s=0, max_5xx_ratio=1.0, max_p95_factor=1000, min_requests=1)


class Nginx:
    """Counts reloads and says what it reads at each; refuses what it is told to refuse."""

    def __init__(self, host: AppHost) -> None:
        self.file = host.layout.nginx / "sites" / f"{host.app}.conf"
        self.host = host
        self.read: list[str | None] = []
        self.link: list[str] = []  # the release that the link led to at each reload
        self.problem = ""

    def reload(self) -> str:
        """Read the configuration again."""
        self.read.append(self.file.read_text() if self.file.exists() else None)
        live = self.host.live()
        self.link.append(live.release if live else "")
        return self.problem

    @staticmethod
    def judge(configuration: Path) -> str:
        """Take everything but nonsense; its includes lie where the file is."""
        assert (configuration.parent / "praetor").is_dir()
        return "nonsense" if "nonsense" in (configuration.parent / "sites/api.conf").read_text() else ""


@pytest.fixture
def nginx(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    """Return the NGINX of the host."""
    found = Nginx(host)
    (host.layout.nginx / "praetor").mkdir()
    (host.layout.nginx / "nginx.conf").write_text(
        "# A stop waits for requests for 50 s at the most.\nworker_shutdown_timeout 3600s;\n"
    )
    monkeypatch.setattr(sites, "_reload", found.reload)
    monkeypatch.setattr(sites, "_judge", found.judge)
    monkeypatch.setattr(sites, "await_old_workers", lambda: found.link.append("waited"))
    return found


def release_with(host: AppHost, release: str, text: str, **changes: Any) -> None:
    """Put a complete release with a site on the host."""
    put_release(host, release, **changes)
    (host.release_dir(release) / "site.conf").write_text(text)


def flipped(host: AppHost, release: str, number: int, limits: Limits = CALM) -> None:
    """Flip to a release in a run that is not settled."""
    slot = put_slot(host, release, number)
    await_slot(slot)
    with phase(host, a_run(), "flip", begins=True) as journal:
        flip_and_bake(host, slot, limits, Path("/nonexistent"), journal)


@pytest.mark.usefixtures("emperor")
def test_a_site_comes_with_the_flip_and_an_equal_one_costs_no_reload(host: AppHost, nginx: Nginx) -> None:
    release_with(host, "1-a", "one\n")
    release_with(host, "2-b", "one\n")
    flipped(host, "1-a", 1)
    assert nginx.read == ["one\n"]
    flipped(host, "2-b", 2)
    assert nginx.read == ["one\n"]


@pytest.mark.usefixtures("emperor")
def test_what_nginx_does_not_take_is_not_flipped_to(host: AppHost, nginx: Nginx) -> None:
    release_with(host, "1-a", "one\n")
    release_with(host, "2-b", "two\n")
    flipped(host, "1-a", 1)
    nginx.problem = "no new worker"
    with pytest.raises(ReleaseError, match=r"did not take the site of 2-b and goes on with the one before:\nno new"):
        flipped(host, "2-b", 2)
    assert nginx.file.read_text() == "one\n"
    live = host.live()
    assert live is not None
    assert live.release == "1-a"


@pytest.mark.usefixtures("emperor")
def test_a_failed_bake_takes_the_site_back(host: AppHost, nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    release_with(host, "1-a", "one\n")
    release_with(host, "2-b", "two\n")
    flipped(host, "1-a", 1)
    monkeypatch.setattr("praetor.host.flip.last_lines", lambda *_: "")
    monkeypatch.setattr("praetor.host.flip.breach", lambda *_: "too many errors")
    with pytest.raises(BakeError, match="1-a serves again"):
        flipped(host, "2-b", 2)
    assert nginx.read == ["one\n", "two\n", "one\n"]


@pytest.mark.usefixtures("emperor")
def test_a_run_that_died_at_the_reload_is_repaired_with_a_reload(host: AppHost, nginx: Nginx) -> None:
    release_with(host, "1-a", "one\n")
    flipped(host, "1-a", 1)
    unlock(host, "r1")
    append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
    # The file is right, and whether NGINX has read it nobody knows.
    with phase(host, a_run("r2"), "flip", begins=True) as journal:
        journal["site"] = "1-a"
        save(host, journal)
    with phase(host, a_run("r3"), "lock", break_run="r2", begins=True) as journal:
        assert "gave NGINX the site of 1-a again" in settles.repair(host, journal, 1)
    assert nginx.read == ["one\n", "one\n"]


@pytest.mark.usefixtures("emperor")
def test_a_site_that_was_changed_by_hand_is_work_for_the_next_run(host: AppHost, nginx: Nginx) -> None:
    release_with(host, "1-a", "one\n")
    flipped(host, "1-a", 1)
    assert survey(host)["site"] is True
    nginx.file.write_text("by hand\n")
    assert survey(host)["site"] is False
    assert survey(host)["nginx_waits_s"] == 50


@pytest.mark.usefixtures("emperor")
def test_a_release_without_a_site_leaves_the_one_that_is_there(host: AppHost, nginx: Nginx) -> None:
    release_with(host, "2-b", "two\n")
    put_release(host, "1-a")
    flipped(host, "2-b", 1)
    flipped(host, "1-a", 2)
    assert (nginx.file.read_text(), nginx.read) == ("two\n", ["two\n"])


@pytest.mark.usefixtures("nginx")
def test_what_nginx_refuses_is_told_before_a_slot_starts(host: AppHost) -> None:
    release_with(host, "1-a", "nonsense\n")
    with pytest.raises(ReleaseError, match=r"NGINX refuses the site of 1-a; nothing was started. It says:\nnonsense"):
        sites.check(host, "1-a")


@pytest.mark.usefixtures("nginx")
def test_a_name_without_a_certificate_is_told_before_a_slot_starts(
    host: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"server_names": ["a.example", "b.example", "c.wild.example"]}
    release_with(host, "1-a", "ssl_certificate x;\n", settings=settings)
    monkeypatch.setattr(sites, "_certified", lambda _: {"a.example", "*.wild.example"})
    with pytest.raises(ReleaseError, match=r"no certificate for b\.example; nothing was started"):
        sites.check(host, "1-a")


def test_a_removed_app_is_served_no_more(host: AppHost, nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("praetor.host.removal.AppHost", lambda _: host)
    nginx.file.write_text("one\n")
    removal(app="api", drain_s=1)
    assert nginx.read == [None]


SITE = "location / {{ fastcgi_read_timeout 35s; fastcgi_pass unix:{}; }}\n"


def earlier_release(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a release of before 1.0.0 live, provision, and return the site that it has from then on."""
    monkeypatch.setattr("praetor.host.site.AppHost", lambda _: host)
    put_release(host, "0-a")
    (host.release_dir("0-a") / "vassal.ini").write_text("[uwsgi]\nsocket = /run/uwsgi/api/%n.sock\n")
    host.flip(put_slot(host, "0-a", 1))
    text = SITE.format(host.live_link)
    assert sites.work(check=True, sites={"api": text}) == {"changed": True, "kept": ["api"]}
    assert not (host.release_dir("0-a") / "site.conf").exists()
    assert sites.work(check=False, sites={"api": text})["changed"] is True
    assert sites.work(check=False, sites={"api": text})["changed"] is False
    return (host.release_dir("0-a") / "site.conf").read_text()


@pytest.mark.usefixtures("emperor")
def test_nginx_never_speaks_to_a_slot_in_the_protocol_of_another_version(
    host: AppHost, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = earlier_release(host, monkeypatch)
    assert old == f"location / {{ uwsgi_read_timeout 35s; uwsgi_pass unix:{host.run_dir}/api.0-a.1.sock; }}\n"
    assert nginx.file.read_text() == old
    new = SITE.format(host.live_link)
    release_with(host, "1-b", new)
    monkeypatch.setattr("praetor.host.flip.last_lines", lambda *_: "")
    reasons = ["too many errors"]
    monkeypatch.setattr("praetor.host.flip.breach", lambda *_: reasons.pop() if reasons else None)
    with pytest.raises(BakeError, match="0-a serves again"):
        flipped(host, "1-b", 2)
    # There and back, whoever reads a site that follows the link finds the new slot behind it.
    assert (nginx.read, nginx.link) == ([new, old], ["1-b", "1-b", "waited"])
    assert host.live() == Slot("api", "0-a", 1)
    flipped(host, "1-b", 3)
    assert (nginx.read[2:], nginx.link[3:]) == ([new], ["1-b"])


@pytest.mark.usefixtures("emperor", "nginx")
def test_a_live_slot_that_speaks_fastcgi_keeps_its_site(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("praetor.host.site.AppHost", lambda _: host)
    assert sites.work(check=False, sites={"api": "next\n"}) == {"changed": False, "kept": []}
    release_with(host, "1-b", "one\n")
    (host.release_dir("1-b") / "vassal.ini").write_text("[uwsgi]\nfastcgi-socket = /run/uwsgi/api/%n.sock\n")
    flipped(host, "1-b", 1)
    assert sites.work(check=False, sites={"api": "next\n"}) == {"changed": False, "kept": []}


def test_a_release_of_an_earlier_version_is_not_started_again(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier_release(host, monkeypatch)
    with pytest.raises(
        ReleaseError, match=r"an earlier version.* Nothing was started, and what is live goes on serving"
    ):
        sites.check(host, "0-a")


def test_an_interrupted_first_release_is_taken_back_while_the_earlier_slot_is_warm(
    host: AppHost, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = earlier_release(host, monkeypatch), SITE.format(host.live_link)
    release_with(host, "1-b", new)
    host.flip(put_slot(host, "1-b", 2))
    nginx.file.write_text(new)
    with phase(host, a_run(), "flip", begins=True) as journal:
        journal["previous"] = "api.0-a.1"
        save(host, journal)
    monkeypatch.setattr("praetor.host.settle.retire_others", lambda *_: [])

    def answer(asked: socket.socket) -> None:
        asked.recv(65536)
        asked.sendall(b"HTTP/1.1 200 OK\r\n\r\nwell")

    server = Server(host.socket(Slot("api", "0-a", 1)), answer)
    with phase(host, a_run("r2"), "lock", break_run="r1", begins=True) as journal:
        assert "flipped back to 0-a: the bake of 1-b was not finished" in settles.repair(host, journal, 1)
    server.close()
    assert (nginx.read, nginx.link, host.live()) == ([old], ["1-b", "waited"], Slot("api", "0-a", 1))
