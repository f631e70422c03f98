"""Items: things that are kept in a store."""

import os
import time
from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints
from sqlalchemy import Select, bindparam, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.domain.tables import ItemRow
from api.model import Integer, Model

ItemId = Annotated[UUID, Field(description="Chosen by the service; sorts by time of creation.")]

# No control characters: a name stands in lists and logs, and PostgreSQL stores no NUL.
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Note = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,29}$")]


class NotFoundError(Exception):
    """There is no such item."""


class NameTakenError(Exception):
    """Another item has that name."""


class ChangedError(Exception):
    """The item is not in the version that the caller expects."""


class Kind(StrEnum):
    """What an item is for."""

    TOOL = "tool"
    PART = "part"
    MATERIAL = "material"


class ItemContent(Model):
    """What a caller decides about an item."""

    name: Name = Field(description="Unique among all items.")
    kind: Kind
    quantity: Integer = Field(default=0, ge=0, le=1_000_000)
    tags: list[Tag] = Field(default=[], max_length=10)
    note: Note = ""


class Item(ItemContent):
    """An item as it is kept."""

    id: ItemId
    created_at: datetime
    updated_at: datetime
    version: int = Field(ge=1, description="Counts the changes; the ETag is made of it.")

    def content(self) -> ItemContent:
        """Only what the caller decided."""
        return ItemContent(**self.model_dump(include=set(ItemContent.model_fields)))


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): milliseconds first, so ids sort by time of creation."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    tail = bytearray(os.urandom(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return UUID(bytes=stamp + bytes(tail))


def create(session: Session, content: ItemContent) -> Item:
    """Keep a new item. Raises NameTakenError."""
    now = datetime.now(UTC)
    row = ItemRow(id=new_id(), created_at=now, updated_at=now, version=1, **content.model_dump(mode="json"))
    session.add(row)
    return _flushed(session, row)


def read(session: Session, item_id: UUID) -> Item:
    """One item. Raises NotFoundError."""
    return _item(_row(session, item_id))


def page(
    session: Session, limit: int, after: UUID | None = None, kind: Kind | None = None, min_quantity: int = 0
) -> tuple[list[Item], bool]:
    """Up to `limit` items in order of creation, from the one behind `after`, and whether more follow."""
    found = {"limit": limit + 1, "min_quantity": min_quantity, "after": after, "kind": kind}
    rows = session.execute(_page(after=after is not None, kind=kind is not None), found).all()
    items = [Item.model_validate(dict(zip(_FIELDS, row, strict=True)), strict=False) for row in rows[:limit]]
    return items, len(rows) > limit


_FIELDS = tuple(Item.model_fields)


@cache
def _page(*, after: bool, kind: bool) -> Select[Any]:
    """The statement of a page, made once, with columns and no objects: both would cost as much again as the rest."""
    query = (
        select(*(ItemRow.__table__.c[name] for name in _FIELDS))
        .order_by(ItemRow.id)
        .limit(bindparam("limit"))
        .where(ItemRow.quantity >= bindparam("min_quantity"))
    )
    if after:
        query = query.where(ItemRow.id > bindparam("after"))
    return query.where(ItemRow.kind == bindparam("kind")) if kind else query


def replace(session: Session, item: Item, content: ItemContent) -> Item:
    """Give an item that was read with `lock` new content; equal content changes nothing. Raises NameTakenError."""
    if content == item.content():
        return item
    row = _row(session, item.id)
    for name, value in content.model_dump(mode="json").items():
        setattr(row, name, value)
    row.updated_at = datetime.now(UTC)
    row.version += 1
    return _flushed(session, row)


def lock(session: Session, item_id: UUID, versions: Collection[int] | None) -> Item:
    """One item that nobody else can change until the transaction ends.

    `versions` are those that the caller has seen, None if any will do. Raises NotFoundError, ChangedError.
    """
    item = _item(_row(session, item_id, lock=True))
    if versions is not None and item.version not in versions:
        raise ChangedError
    return item


def delete(session: Session, item: Item) -> None:
    """Drop an item that was read with `lock`."""
    session.delete(_row(session, item.id))


def _row(session: Session, item_id: UUID, *, lock: bool = False) -> ItemRow:
    row = session.get(ItemRow, item_id, with_for_update=lock or None)
    if row is None:
        raise NotFoundError
    return row


def _item(row: ItemRow) -> Item:
    return Item.model_validate(row, from_attributes=True, strict=False)


def _flushed(session: Session, row: ItemRow) -> Item:
    try:
        session.flush()
    except IntegrityError:
        raise NameTakenError from None
    return _item(row)
