"""Facts of the request being served, for audit rows and logs: its id and the caller's address."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestContext:
    request_id: str = ""
    ip: str | None = None


_context: ContextVar[RequestContext] = ContextVar("request_context", default=RequestContext())  # noqa: B039 frozen


def current_request() -> RequestContext:
    return _context.get()


def set_current_request(request_id: str, ip: str | None) -> None:
    """Called once per request or socket by the edge; ends with the task that serves it."""
    _context.set(RequestContext(request_id, ip))
