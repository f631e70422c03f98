"""Static files of releases as a host lays them out: one tree of URLs a release, live and before, tags made of content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import manifest_of, put_release

from praetor.host import static as statics
from praetor.host.layout import AppHost, ReleaseError

WANTED = {"/static": "shop/static", "/favicon.ico": "shop/static/favicon.ico", "/lib/": "toolkit/dist"}


def laid_out(host: AppHost, release: str, files: dict[str, str], wanted: dict[str, str] | None = None) -> Path:
    """Put a release with these files on the host, and lay out what its entry names."""
    manifest: Any = {"id": release, "settings": {"static": WANTED if wanted is None else wanted}}
    put_release(host, release)
    place = host.release_dir(release)
    packages = place / "venv/lib/python3.11/site-packages"
    for name, text in {"toolkit/dist/toolkit.js": "lib", **files}.items():
        path = (packages if name.startswith("toolkit/") else place / "src") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    statics.lay_out(host, manifest, place)
    return host.static / release


FILES = {"shop/static/app.css": "a", "shop/static/deep/er/app.js": "b", "shop/static/favicon.ico": "i"}


def test_the_tree_has_the_paths_of_urls_from_project_and_packages_and_nothing_is_copied(host: AppHost) -> None:
    tree = laid_out(host, "1-a", FILES)
    found = {path.relative_to(tree).as_posix(): path.read_text() for path in tree.rglob("*") if path.is_file()}
    expected = {"static/app.css": "a", "static/deep/er/app.js": "b", "static/favicon.ico": "i", "favicon.ico": "i"}
    assert found == {**expected, "lib/toolkit.js": "lib"}
    assert (tree / "static/app.css").samefile(host.release_dir("1-a") / "src/shop/static/app.css")


def test_anybody_may_go_through_the_tree_whatever_the_umask(host: AppHost) -> None:
    before = os.umask(0o077)
    try:
        tree = laid_out(host, "1-a", FILES)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in [host.static, tree, *tree.rglob("*")] if path.is_dir()} == {0o755}


def test_a_files_time_and_so_its_tag_is_that_of_its_content(host: AppHost) -> None:
    one = laid_out(host, "1-a", FILES)
    two = laid_out(host, "2-b", {**FILES, "shop/static/app.css": "c"})
    times = [
        [(tree / name).stat().st_mtime for name in ("static/app.css", "static/deep/er/app.js")] for tree in (one, two)
    ]
    assert times[0][0] != times[1][0]
    assert times[0][1] == times[1][1]
    assert all(315_532_800 <= time < 1_500_000_000 for each in times for time in each)


def test_what_a_link_leads_to_outside_the_release_is_not_served(host: AppHost) -> None:
    host.data.mkdir(exist_ok=True)
    (host.data / "secret").write_text("s")
    put_release(host, "1-a")
    place = host.release_dir("1-a") / "src/shop/static"
    place.mkdir(parents=True)
    (place / "app.css").write_text("a")
    (place / "same.css").symlink_to("app.css")
    (place / "uploads").symlink_to(host.data)
    manifest = manifest_of("1-a", settings={"static": {"/static": "shop/static"}})
    statics.lay_out(host, manifest, host.release_dir("1-a"))
    assert sorted(path.name for path in (host.static / "1-a/static").iterdir()) == ["app.css", "same.css"]
    assert not (host.static / "1-a/static/same.css").is_symlink()


def test_what_the_release_does_not_have_is_named(host: AppHost) -> None:
    with pytest.raises(
        ReleaseError, match="static: /static: neither the project's files nor an installed package have shop/static"
    ):
        laid_out(host, "1-a", {})


def test_after_a_flip_the_files_before_are_served_too_and_a_second_call_changes_nothing(host: AppHost) -> None:
    for release in ("1-a", "2-b", "3-c"):
        laid_out(host, release, FILES)
    assert [statics.switch(host, release) for release in ("1-a", "2-b", "2-b")] == [True, True, False]
    assert [(host.static / name).readlink().name for name in ("live", "before")] == ["2-b", "1-a"]
    # Back: a page of the release that failed may be open.
    statics.switch(host, "1-a")
    assert [(host.static / name).readlink().name for name in ("live", "before")] == ["1-a", "2-b"]
    assert statics.is_current(host, "1-a")
    assert not statics.is_current(host, "2-b")


def test_an_app_without_static_files_has_no_links_until_a_release_has_some(host: AppHost) -> None:
    put_release(host, "1-a")
    assert statics.switch(host, "1-a") is False
    assert not host.static.exists()
    laid_out(host, "2-b", FILES)
    statics.switch(host, "2-b")
    put_release(host, "3-c")
    statics.switch(host, "3-c")
    assert not (host.static / "live").exists()
    assert (host.static / "before/static/app.css").exists()


def test_files_of_no_release_are_leftovers_but_for_those_before_the_flip(host: AppHost) -> None:
    for release in ("1-a", "2-b", "3-c"):
        laid_out(host, release, FILES)
    for release in ("1-a", "2-b"):
        statics.switch(host, release)
    for release in ("1-a", "3-c"):
        (host.release_dir(release) / "release.json").unlink()
    assert host.static / "3-c" in host.leftovers()
    assert host.static / "1-a" not in host.leftovers()
