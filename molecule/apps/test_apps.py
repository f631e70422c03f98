"""Published projects, released with the entries that docs/apps shows, and used by a person with a browser on each Debian."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import zipfile
from base64 import b64encode
from collections.abc import Callable

from visitor import Visitor

Visit = Callable[[str], Visitor]
PASSWORD = "administrator of throw-away hosts"  # noqa: S105  of the scenario's vault.yml


def loads_what_its_page_names(visitor: Visitor, page: str) -> dict[str, str]:
    """Every script, style and picture of a page is there; returns how long each may be kept."""
    assets = visitor.assets(page)
    assert assets
    kept = {}
    for path in assets[:30]:
        answer = visitor.go(path)
        assert (answer.status, bool(answer.body)) == (200, True), path
        kept[path] = answer.headers["Cache-Control"] or ""
    return kept


def test_flaskr_registers_logs_in_and_publishes(visit: Visit) -> None:
    person, name = visit("flaskr"), f"anna{secrets.token_hex(4)}"
    who = {"username": name, "password": "a long secret"}
    person.fill("/auth/register", who)
    assert "Log Out" in person.fill("/auth/login", who).body.decode()
    assert f"Hello from {name}" in person.fill("/create", {"title": f"Hello from {name}", "body": "text"}).body.decode()
    loads_what_its_page_names(person, person.page("/"))
    # Its session is signed with the key of the inventory, and not with the one of the tutorial.
    assert "Log In" in Visitor(person.site, person.name, {"session": "e30.forged.forged"}).page("/")


def test_django_logs_in_uploads_and_has_static_files_for_a_year(visit: Visit) -> None:
    person, picture = visit("shop"), os.urandom(3_000_000)
    assert (
        "Site administration"
        in person.fill("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD}).body.decode()
    )
    name = f"bowl{secrets.token_hex(4)}"
    added = person.fill("/admin/shop/item/add/", {"name": name}, {"picture": (f"{name}.png", picture)})
    assert (added.status, name in added.body.decode()) == (200, True)
    page = person.page("/")
    [path] = re.findall(rf"{name}: <a href=\"([^\"]+)", page)
    assert person.go(path).body == picture
    kept = loads_what_its_page_names(person, page)
    assert all("immutable" in kept[path] for path in kept if path.startswith("/static/"))
    plain = person.site.ask(person.name, "/", {"X-Forwarded-Proto": "http"})
    assert plain.status == 200, "a client cannot talk it into a redirect"


def test_radicale_keeps_events(visit: Visit) -> None:
    person = visit("calendar")
    event = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//a//b\r\nBEGIN:VEVENT\r\nUID:one\r\nDTSTAMP:20260101T000000Z\r\n"
    )
    event += "DTSTART:20260101T100000Z\r\nSUMMARY:Dentist\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    who, folder = f"Basic {b64encode(b'anna:any').decode()}", f"/anna/{secrets.token_hex(4)}/"
    assert person.go(folder, "MKCALENDAR", Authorization=who).status == 201
    put = person.go(f"{folder}one.ics", "PUT", event.encode(), Authorization=who, Content_Type="text/calendar")
    assert put.status == 201
    found = person.go(folder, "PROPFIND", Authorization=who, Depth="1")
    assert (found.status, b"one.ics" in found.body) == (207, True)
    assert b"SUMMARY:Dentist" in person.go(f"{folder}one.ics", Authorization=who).body
    loads_what_its_page_names(person, person.page("/.web/"))


def test_isso_takes_a_comment_and_shows_it(visit: Visit) -> None:
    person, uri = visit("comments"), f"/{secrets.token_hex(4)}/"
    assert b"isso" in person.go("/js/embed.min.js").body
    said = json.dumps({"text": "A *comment*", "title": "A page", "author": "Anna"}).encode()
    sent = person.go(f"/new?uri={uri}", "POST", said, Content_Type="application/json")
    assert sent.status == 201, sent.body
    shown = json.loads(person.go(f"/?uri={uri}").body)
    assert [reply["text"] for reply in shown["replies"]] == ["<p>A <em>comment</em></p>\n"] or "comment" in shown[
        "replies"
    ][0]["text"]


def test_dash_calls_back(visit: Visit) -> None:
    person = visit("sales")
    loads_what_its_page_names(person, person.page("/"))
    asked: dict[str, object] = {"output": "sold.children", "outputs": {"id": "sold", "property": "children"}}
    asked |= {"inputs": [{"id": "city", "property": "value", "value": "Oslo"}], "changedPropIds": ["city.value"]}
    answer = person.go("/_dash-update-component", "POST", json.dumps(asked).encode(), Content_Type="application/json")
    assert json.loads(answer.body)["response"]["sold"]["children"] == "Oslo: 30"


def test_the_wiki_keeps_pages_and_attachments(visit: Visit) -> None:
    person, name, picture = visit("wiki"), f"Page{secrets.token_hex(4)}", os.urandom(2_000_000)
    saved = person.fill(f"/{name}/edit", {"content": "# Written\n\nby hand", "commit": "first"}, to=f"/{name}/save")
    assert "by hand" in saved.body.decode()
    person.fill(f"/{name}/attachments", {}, {"file": ("picture.bin", picture)}, to=f"/{name}/attachments")
    assert person.go(f"/{name}/a/picture.bin").body == picture
    loads_what_its_page_names(person, person.page(f"/{name}"))


def test_the_package_index_takes_a_package_and_gives_it_to_a_slow_client(visit: Visit) -> None:
    person, version = visit("packages"), f"1.0.{int(secrets.token_hex(3), 16)}"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("big.bin", os.urandom(8_000_000))
        archive.writestr(f"big-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: big\nVersion: {version}\n")
    file = f"big-{version}-py3-none-any.whl"
    sent = person.send("/", {":action": "file_upload"}, {"content": (file, packed.getvalue())})
    assert sent.status == 200, sent.body
    assert file in person.page("/simple/big/")
    # Longer than uWSGI waits for a client by itself, which is 4 s.
    assert person.take_slowly(f"/packages/{file}", 1_500_000, pause_s=8) == packed.getvalue()


def test_wagtail_logs_in_keeps_documents_and_nginx_serves_its_static_files(visit: Visit) -> None:
    person, text, name = visit("cms"), os.urandom(1_000_000), f"report{secrets.token_hex(4)}"
    page = person.fill("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD}).body.decode()
    assert "/admin/logout/" in page
    kept = loads_what_its_page_names(person, page)
    ours = [kept[path] for path in kept if path.startswith("/static/")]
    assert ours
    assert set(ours) == {"max-age=31536000, immutable"}
    person.fill("/admin/documents/add/", {"title": name, "collection": "1"}, {"file": (f"{name}.txt", text)})
    listed = person.page("/admin/documents/")
    path = next(found for found in re.findall(r"/documents/\d+/[\w.]+", listed) if name in found)
    assert person.go(path).body == text


def test_searxng_shows_its_page(visit: Visit) -> None:
    person = visit("search")
    page = person.page("/")
    assert 'name="q"' in page
    loads_what_its_page_names(person, page)
    # The hosts of the scenario reach no engine, and it says so on a separate page.
    assert person.go("/search?q=debian").status == 200
    assert person.page("/preferences")


def test_trac_shows_its_wiki_and_files(visit: Visit) -> None:
    person = visit("tickets")
    page = person.page("/wiki")
    assert "Welcome to Trac" in page
    # It names a picture that its administrator is to bring.
    loads_what_its_page_names(person, page.replace("/chrome/site/your_project_logo.png", ""))
    assert "Active Tickets" in person.page("/report/1")


def test_mlflow_records_a_run_and_keeps_an_artifact(visit: Visit) -> None:
    person, model = visit("tracking"), os.urandom(5_000_000)
    loads_what_its_page_names(person, person.page("/"))

    def call(path: str, **body: object) -> dict[str, object]:
        answer = person.go(
            f"/api/2.0/mlflow/{path}", "POST", json.dumps(body).encode(), Content_Type="application/json"
        )
        assert answer.status == 200, answer.body
        found: dict[str, object] = json.loads(answer.body)
        return found

    number = call("experiments/create", name=secrets.token_hex(4))["experiment_id"]
    assert "run" in call("runs/create", experiment_id=number)
    path = f"/api/2.0/mlflow-artifacts/artifacts/{number}/model.bin"
    assert person.go(path, "PUT", model).status == 200
    assert person.take_slowly(path, 2_000_000) == model


def test_the_shared_folder_is_for_those_who_have_its_password(visit: Visit) -> None:
    person, content, path = visit("share"), os.urandom(4_000_000), f"/{secrets.token_hex(4)}.bin"
    for wrong in ("", "Basic " + b64encode(b"anna:guessed").decode()):
        for method in ("GET", "PUT", "PROPFIND"):
            assert person.go(path, method, b"x" if method == "PUT" else None, Authorization=wrong).status == 401
    right = "Basic " + b64encode(f"anna:{PASSWORD}".encode()).decode()
    assert person.go(path, "PUT", content, Authorization=right).status == 201
    found = person.go("/", "PROPFIND", Authorization=right, Depth="1")
    assert (found.status, path.encode() in found.body) == (207, True)
    assert person.go(path, Authorization=right).body == content


def test_the_budget_is_below_a_path_of_two_names(visit: Visit) -> None:
    for person in (visit("budget"), visit("wiki")):
        name = f"trip{secrets.token_hex(4)}"
        given = {"id": name, "name": f"Trip {name}", "password": "a long secret", "contact_email": "a@example.org"}
        person.fill("/budget/create", given)
        assert person.at.startswith(f"/budget/{name}/"), person.at
        loads_what_its_page_names(person, person.page(f"/budget/{name}/"))
        assert person.go("/budget").status == 200
