"""In whose name model calls are made: who pays, how urgent they are, and what may be shared.

Whoever runs something that asks models enters a CallContext; the gateway refuses to call a model without one, so that
no path can go around the meter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol
from uuid import UUID

from core.errors import ApplicationError
from llm.targets import ModelTarget
from llm.wire import ChatRequest, Delta, Usage


class Priority(IntEnum):
    """Lower goes first where calls wait for a provider's limits."""

    INTERACTIVE = 0
    BACKGROUND = 10


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How one call of a provider ended. `usage` is the provider's own count, None where it gave none.

    Without `error` and `finish_reason` its caller went away before the end.

    `route` is the slug of the route that chose the target, `variant` the side of its A/B test, `reason` why it went
    there, `leg` its place in the answer (0, and more where another provider continued it), `attempt` counts from 1 over
    all targets. `cached`: no provider was asked. `sent` is False where nothing was asked for and nothing saved either.
    """

    usage: Usage | None
    error: ApplicationError | None = None
    finish_reason: str = ""
    first_token_ms: int | None = None
    total_ms: int = 0
    route: str = ""
    variant: str = ""
    reason: str = ""
    leg: int = 0
    attempt: int = 1
    cached: bool = False
    sent: bool = True


class MeteredCall(Protocol):
    """One call of a provider under way, from its reservation to its record."""

    @property
    def most_tokens(self) -> int | None:
        """The longest answer that may be paid for, which the provider is told; None for any."""

    def said(self, delta: Delta) -> bool:
        """Count a delta; True when what is reserved is used up, and `extend` must be awaited before more is said."""

    async def extend(self) -> None:
        """Reserve more. Raises `usage.exceptions.BudgetExceeded` when a budget has no room: the call must end."""

    def close(self, outcome: CallOutcome) -> None:
        """Exactly once, however the call ended (a cancelled caller included): what it used is kept for the record.

        It waits for nothing, so nothing can come between; what must be written is written later.
        """


class Meter(Protocol):
    def at_once(self, target: ModelTarget, request: ChatRequest) -> MeteredCall | None:
        """As `open`, where nothing must be waited for; None otherwise, and `open` is asked."""

    async def open(self, target: ModelTarget, request: ChatRequest) -> MeteredCall:
        """Reserve for one attempt. Raises `usage.exceptions.BudgetExceeded`; then nothing is reserved.

        Opened as well for an answer from the cache, or from an identical call under way: such a call hears of no delta,
        and its outcome says `cached`. It runs in a task of its own, with the caller's context.
        """


class Unpaid:
    """The meter, and the call, of what costs nothing: a replay of recorded answers."""

    def at_once(self, target: ModelTarget, request: ChatRequest) -> MeteredCall:
        return self

    async def open(self, target: ModelTarget, request: ChatRequest) -> MeteredCall:
        return self

    @property
    def most_tokens(self) -> int | None:
        return None

    def said(self, delta: Delta) -> bool:
        return False

    async def extend(self) -> None:
        """Nothing is held."""

    def close(self, outcome: CallOutcome) -> None:
        """Nothing is recorded."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """An agent's wish to have the same request answered from its own earlier answers."""

    ttl_seconds: int
    scope: str  # the agent version: another one never sees its answers


@dataclass(frozen=True, slots=True)
class CallContext:
    """`sticky` is whom an A/B test assigns to one of its variants: the end user, the session or the API key.

    `metadata` is what rules of routes may look at besides the request. `join` lets identical calls under way share one
    call of the provider.
    """

    tenant_id: UUID
    meter: Meter
    priority: Priority = Priority.INTERACTIVE
    sticky: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    cache: CachePolicy | None = None
    join: bool = False


_context: ContextVar[CallContext] = ContextVar("call_context")


def call_context() -> CallContext:
    """Raises LookupError where nobody has entered one: then nobody would pay."""
    return _context.get()


@contextmanager
def calling(context: CallContext) -> Iterator[None]:
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)
