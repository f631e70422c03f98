"""The module that brings a cluster to a later version: which cluster is the host's, and what goes back when it fails."""

from __future__ import annotations

from pathlib import Path

import postgres
import postgresql_upgrade
import pytest

MADE = "# Automatic startup configuration\n#   disabled: refuse to start cluster\n# or disabled\n\n{word}\n"


def cluster(root: Path, version: int, word: str) -> postgres.Cluster:
    """Make the files of a cluster, as Debian does."""
    found = postgres.Cluster(version, root)
    found.settings.mkdir(parents=True)
    (found.data / "global").mkdir(parents=True)
    (found.data / "PG_VERSION").write_text(f"{version}\n")
    (found.settings / "start.conf").write_text(MADE.format(word=word))
    return found


@pytest.mark.parametrize(("word", "retired"), [("auto", False), ("manual", False), ("disabled", True)])
def test_only_a_cluster_that_debian_may_not_start_is_retired(tmp_path: Path, word: str, *, retired: bool) -> None:
    assert cluster(tmp_path, 15, word).retired() is retired


def test_an_upgrade_that_failed_gives_the_old_version_its_control_file_back(tmp_path: Path) -> None:
    old = cluster(tmp_path, 15, "auto")
    away, there = old.data / "global/pg_control.old", old.data / "global/pg_control"
    away.write_text("old")
    postgresql_upgrade.give_back(old)
    assert (there.read_text(), away.exists()) == ("old", False)
    # One that it has is not replaced.
    away.write_text("older")
    postgresql_upgrade.give_back(old)
    assert there.read_text() == "old"


@pytest.mark.parametrize(
    ("clusters", "begun", "version"),
    [
        ({15: "auto"}, False, 15),
        ({15: "auto", 17: "disabled"}, True, 15),
        # Interrupted before the new one was marked.
        ({15: "auto", 17: "auto"}, True, 15),
        ({15: "disabled", 17: "auto"}, False, 17),
        ({17: "auto"}, False, 17),
    ],
)
def test_the_hosts_cluster_is_the_one_that_is_in_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clusters: dict[int, str], version: int, *, begun: bool
) -> None:
    for number, word in clusters.items():
        cluster(tmp_path, number, word)
    if begun:
        postgres.Cluster(17, tmp_path).unfinished.touch()
    monkeypatch.setattr(postgresql_upgrade, "SETTINGS", tmp_path / "etc/postgresql")
    monkeypatch.setattr(postgresql_upgrade, "Cluster", lambda number: postgres.Cluster(number, tmp_path))
    monkeypatch.setattr(postgresql_upgrade, "recovering", lambda: "f")
    seen = postgresql_upgrade.look(17)
    kept = 15 if clusters.get(15) == "disabled" else 0
    assert seen == {"version": version, "state": "primary", "begun": begun, "kept": kept}
