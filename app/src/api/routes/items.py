"""The items resource."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from typing import Annotated, ClassVar
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field, StringConstraints

from api.domain import idempotency, items
from api.domain.idempotency import OtherRequestError
from api.domain.items import ChangedError, Item, ItemContent, ItemId, Kind, NameTakenError, NotFoundError
from api.merge_patch import MergePatch
from api.model import Model, Parameters
from api.services import services
from api.typed import Failure, Reply, Routes

routes = Routes(
    "items",
    prefix="/items",
    failures={
        NotFoundError: Failure(404, "There is no such item."),
        NameTakenError: Failure(409, "Another item has this name."),
        ChangedError: Failure(412, "The item has changed; read it again."),
        OtherRequestError: Failure(409, "This Idempotency-Key was used for a request with another body."),
    },
)

# RFC 9110, section 13.1: `*`, or ETags in quotes with commas between.
ETags = Annotated[str, StringConstraints(pattern=r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$')]
Cursor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")]


class ItemQuery(Parameters):
    """Which items to list."""

    kind: Kind | None = Field(None, description="Only items of this kind.")
    min_quantity: int = Field(0, ge=0, le=1_000_000, description="Only items of which there are at least so many.")
    limit: int | None = Field(None, ge=1, le=1000, description="Items on a page.")
    cursor: Cursor | None = Field(None, description="`next` of the page before.")


class ItemPage(Model):
    """Some items in order of creation."""

    items: list[Item]
    next: Cursor | None = Field(description="Cursor of the next page; null on the last one.")


class Read(Parameters):
    """Headers of a read."""

    # Not ETags: what is no ETag names no version, and the whole item is the right answer then.
    if_none_match: str | None = Field(None, alias="If-None-Match", description="ETag that the caller has.")


class Create(Parameters):
    """Headers of a creation."""

    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")] | None = Field(
        None, alias="Idempotency-Key", description="Chosen by the caller; a repeat with the same key acts once."
    )


class Change(Parameters):
    """Headers of a change."""

    missing: ClassVar[int | None] = 428

    if_match: ETags = Field(alias="If-Match", description="ETag of the item as the caller knows it, or `*`.")

    @property
    def versions(self) -> set[int] | None:
        """The versions that the caller has seen, None if it does not care."""
        return None if self.if_match == "*" else _versions(self.if_match)


@routes.post("", NameTakenError, OtherRequestError)
def create_item(body: ItemContent, headers: Create) -> Reply[Item]:
    """Create an item.

    With an `Idempotency-Key` a repeat gets the first answer again and creates nothing.
    """
    if headers.idempotency_key is None:
        with services().database.write() as session:
            return _created(items.create(session, body))
    try:
        return _create_once(body, headers.idempotency_key)
    except idempotency.ConcurrentError:
        return _create_once(body, headers.idempotency_key)


@routes.get("")
def list_items(query: ItemQuery) -> Reply[ItemPage]:
    """List items, oldest first.

    What is created while a caller turns pages appears on a later one.
    """
    limit = query.limit or services().settings.items.page_size
    after = UUID(bytes=urlsafe_b64decode(f"{query.cursor}==")) if query.cursor else None
    with services().database.read() as session:
        found, more = items.page(session, limit, after, query.kind, query.min_quantity)
    following = urlsafe_b64encode(found[-1].id.bytes).decode().rstrip("=") if more else None
    headers = {}
    if following:
        wanted = query.model_copy(update={"cursor": following}).model_dump(mode="json", exclude_defaults=True)
        headers["Link"] = f'</items?{urlencode(wanted)}>; rel="next"'
    # Not checked here: the response is, with every item in it.
    return Reply(ItemPage.model_construct(items=found, next=following), headers=headers)


@routes.get("/<item_id>", NotFoundError)
def read_item(item_id: ItemId, headers: Read) -> Reply[Item]:
    """Read one item."""
    with services().database.read() as session:
        item = items.read(session, item_id)
    if headers.if_none_match and (headers.if_none_match == "*" or item.version in _versions(headers.if_none_match)):
        return Reply(None, 304, _etag(item))
    return Reply(item, headers=_etag(item))


@routes.put("/<item_id>", NotFoundError, NameTakenError, ChangedError)
def replace_item(item_id: ItemId, headers: Change, body: ItemContent) -> Reply[Item]:
    """Replace an item's content.

    What the body leaves out goes back to its default.
    """
    with services().database.write() as session:
        item = items.lock(session, item_id, headers.versions)
        item = items.replace(session, item, body)
    return Reply(item, headers=_etag(item))


@routes.patch("/<item_id>", NotFoundError, NameTakenError, ChangedError)
def change_item(item_id: ItemId, headers: Change, body: MergePatch[ItemContent]) -> Reply[Item]:
    """Change some of an item's content.

    JSON Merge Patch (RFC 7396): a member sets a field, null puts it back to its default, what is absent stays.
    """
    with services().database.write() as session:
        item = items.lock(session, item_id, headers.versions)
        item = items.replace(session, item, body.apply(item.content()))
    return Reply(item, headers=_etag(item))


@routes.delete("/<item_id>", NotFoundError, ChangedError)
def delete_item(item_id: ItemId, headers: Change) -> None:
    """Delete an item."""
    with services().database.write() as session:
        items.delete(session, items.lock(session, item_id, headers.versions))


def _create_once(body: ItemContent, key: str) -> Reply[Item]:
    found = services()
    content = body.model_dump_json()
    keep = timedelta(hours=found.settings.items.idempotency_hours)
    with found.database.write() as session:
        if earlier := idempotency.recall(session, key, content, keep):
            return _created(Item.model_validate_json(earlier), {"Idempotency-Replayed": "true"})
        claimed = idempotency.claim(session, key, content)
        item = items.create(session, body)
        claimed.body = item.model_dump_json()
    return _created(item)


def _created(item: Item, headers: dict[str, str] | None = None) -> Reply[Item]:
    return Reply(item, headers={"Location": f"/items/{item.id}", **_etag(item), **(headers or {})})


def _versions(etags: str) -> set[int]:
    """Those of the ETags that could be ours. NGINX makes them weak when it compresses, so W/ is no difference."""
    return {int(digits) for digits in re.findall(r'"(\d{1,18})"', etags, re.ASCII)}


def _etag(item: Item) -> dict[str, str]:
    return {"ETag": f'"{item.version}"', "Cache-Control": "no-cache"}
