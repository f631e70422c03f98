"""What is known about the request that this thread is answering."""

import re
from contextvars import ContextVar
from time import monotonic

# W3C Trace Context, level 1: version 00; later versions may append fields after another dash.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


class Request:
    """One request: its id, the caller's `traceparent` as it came, and when it must have ended (monotonic seconds)."""

    __slots__ = ("deadline", "request_id", "traceparent")

    def __init__(self, request_id: str, traceparent: str | None, deadline: float) -> None:
        self.request_id = request_id
        self.traceparent = traceparent
        self.deadline = deadline

    def trace(self) -> dict[str, str]:
        """`trace_id` and `parent_id` of the caller; empty if it sent none, or none that is valid."""
        match = _TRACEPARENT.fullmatch(self.traceparent or "")
        return {"trace_id": match[1], "parent_id": match[2]} if match else {}


current: ContextVar[Request | None] = ContextVar("current", default=None)


class DeadlineExceededError(Exception):
    """The request's time is over; it is answered with 503."""


def remaining_s(otherwise: float) -> float:
    """Seconds until the request's deadline, `otherwise` outside of a request. Raises DeadlineExceededError."""
    request = current.get()
    if request is None:
        return otherwise
    left = request.deadline - monotonic()
    if left <= 0:
        raise DeadlineExceededError
    return left
