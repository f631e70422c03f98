"""Reports: what takes longer than a request should, so a worker makes it. The table of reports is the queue.

A worker takes a report for a time, makes it outside of any transaction that would lock others out, and ends it. One
that dies on the way leaves a report whose time runs out; the next worker makes it again. So a report is made at least
once, and its end is kept once: who comes too late is told so.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain.items import Kind, NotFoundError, new_id
from api.domain.tables import ItemRow, ReportRow
from api.model import Model

ReportId = Annotated[UUID, Field(description="Chosen by the service; sorts by time of creation.")]


class State(StrEnum):
    """How far a report is."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Report(Model):
    """How much there is of each kind of item, as it was at some moment after the report was asked for."""

    id: ReportId
    state: State
    created_at: datetime
    ended_at: datetime | None = Field(description="When it was done or given up; null while it waits or is made.")
    stock: dict[Kind, int] | None = Field(description="Quantities by kind; null until it is done.")


@dataclass(frozen=True)
class Task:
    """A report that a worker has taken; by the number of its try it is known from an earlier one."""

    id: UUID
    number: int


def create(session: Session) -> Report:
    """Queue a report."""
    now = datetime.now(UTC)
    row = ReportRow(id=new_id(), state=State.WAITING, tries=0, leased_until=now, created_at=now)
    session.add(row)
    session.flush()
    return _report(row)


def read(session: Session, report_id: UUID) -> Report:
    """One report. Raises NotFoundError."""
    row = session.get(ReportRow, report_id)
    if row is None:
        raise NotFoundError
    return _report(row)


def take(session: Session, lease: timedelta, tries: int) -> Task | None:
    """Take the oldest report that nobody makes, for so long; None if there is none.

    PostgreSQL skips those that others are about to take; SQLite has one writer at a time, so nobody is about to.
    A report that was tried `tries` times has failed.
    """
    now = datetime.now(UTC)
    open_ones = (
        select(ReportRow)
        .where(ReportRow.state == State.WAITING, ReportRow.leased_until <= now)
        .order_by(ReportRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while row := session.scalars(open_ones).first():
        if row.tries < tries:
            row.tries += 1
            row.leased_until = now + lease
            return Task(row.id, row.tries)
        row.state, row.ended_at = State.FAILED, now
        session.flush()
    return None


def make(session: Session) -> dict[str, int]:
    """Count what there is."""
    rows = session.execute(select(ItemRow.kind, func.sum(ItemRow.quantity)).group_by(ItemRow.kind))
    return {kind: int(quantity) for kind, quantity in rows}


def end(session: Session, task: Task, stock: dict[str, int]) -> bool:
    """Keep what was made, unless its time had run out and another worker took it; returns whether it was kept."""
    row = session.get(ReportRow, task.id, with_for_update=True)
    if row is None or row.state != State.WAITING or row.tries != task.number:
        return False
    row.state, row.ended_at, row.stock = State.DONE, datetime.now(UTC), stock
    return True


def _report(row: ReportRow) -> Report:
    return Report.model_validate({name: getattr(row, name) for name in Report.model_fields}, strict=False)
