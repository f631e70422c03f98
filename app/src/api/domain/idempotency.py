"""Answers that are kept, so that a POST which is sent twice acts once."""

import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.domain.tables import IdempotencyRow


class OtherRequestError(Exception):
    """The key was used before with another content."""


class ConcurrentError(Exception):
    """Another request with the same key has just been answered; start again and recall its answer."""


def recall(session: Session, key: str, content: str, keep: timedelta) -> str | None:
    """The answer to an earlier request with this key, or None. Forgets what is older than `keep`.

    Raises OtherRequestError.
    """
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < datetime.now(UTC) - keep))
    row = session.get(IdempotencyRow, key)
    if row is None:
        return None
    if row.fingerprint != _fingerprint(content):
        raise OtherRequestError
    return row.body


def claim(session: Session, key: str, content: str) -> IdempotencyRow:
    """Take the key before acting, so that its twin waits for this transaction. Raises ConcurrentError.

    The answer belongs into the row's `body` before the transaction ends.
    """
    row = IdempotencyRow(key=key, fingerprint=_fingerprint(content), body="", created_at=datetime.now(UTC))
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise ConcurrentError from None
    return row


def _fingerprint(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
