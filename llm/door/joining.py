"""Identical calls under way share one call of the provider; each caller sees its whole stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from core.errors import ApplicationError, Unavailable
from llm.calls import CallContext, CallOutcome
from llm.door.cache import request_key
from llm.door.flow import QUEUE_CODES
from llm.door.settling import close, open_metered
from llm.exceptions import ModelNotFound, ProviderError, StreamTruncated
from llm.targets import Target
from llm.wire import ChatRequest, Delta, Usage

Ask = Callable[[ChatRequest, Target, CallContext], AsyncGenerator[Delta, None]]
CLOSING = 1.0  # seconds that the last listener waits for the call to be closed
JOINED = "joined: an identical call was under way"


class SharedCall:
    """One call, made by a task of its own as long as anybody listens. The first listener's meter pays."""

    def __init__(self, source: AsyncGenerator[Delta, None]) -> None:
        self.usage: Usage | None = None
        self.finish_reason = ""
        self.error: Exception | None = None
        self._deltas: list[Delta] = []
        self._listeners = 0
        self._ended = False
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._produce(source))

    @property
    def over(self) -> bool:
        """Nobody joins it any more."""
        return self._ended or not self._listeners

    @property
    def whole(self) -> bool:
        """Its answer has come to its end."""
        return self._ended and self.error is None and bool(self.finish_reason)

    def join(self) -> None:
        """At once after `over` was asked or the call was made; then `listen`, and in the end `leave`."""
        self._listeners += 1

    async def listen(self) -> AsyncGenerator[Delta, None]:
        """From the first delta on. Raises what the call raised."""
        place = 0
        while True:
            while place < len(self._deltas):
                yield self._deltas[place]
                place += 1
            if self._ended:
                break
            await self._news.wait()
        if self.error is not None:
            raise self.error

    def leave(self) -> None:
        """The last one ends the call."""
        self._listeners -= 1
        if not self._listeners:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait a moment for the provider's connection to be closed, when nobody listens any more."""
        if not self._listeners:
            await asyncio.wait({self._task}, timeout=CLOSING)

    async def _produce(self, source: AsyncGenerator[Delta, None]) -> None:
        try:
            async with aclosing(source) as deltas:
                async for delta in deltas:
                    self._deltas.append(delta)
                    self.usage = delta.usage or self.usage
                    self.finish_reason = delta.finish_reason or self.finish_reason
                    self._tell()
        except Exception as error:  # told to every listener
            self.error = error
        finally:
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


_under_way: dict[tuple[object, ...], SharedCall] = {}


async def joined(request: ChatRequest, target: Target, context: CallContext, ask: Ask) -> AsyncGenerator[Delta, None]:
    """The answer to the same request of the same tenant that is under way, or else a new one that others may join."""
    scope = context.cache.scope if context.cache else ""  # what another scope has cached is shared no more than that
    place = (asyncio.get_running_loop(), context.tenant_id, request_key(request, target, scope))
    shared = _under_way.get(place)
    first = shared is None or shared.over
    if shared is None or first:
        shared = _under_way[place] = SharedCall(ask(request, target, context))
    shared.join()
    try:
        async with aclosing(shared.listen() if first else _free(shared, request, target, context, ask)) as deltas:
            async for delta in deltas:
                yield delta
    finally:
        shared.leave()
        if shared.over and _under_way.get(place) is shared:
            del _under_way[place]
        await shared.closed()


async def _free(
    shared: SharedCall, request: ChatRequest, target: Target, context: CallContext, ask: Ask
) -> AsyncGenerator[Delta, None]:
    """For who came later: in the records, and at no cost. That the first one cannot pay is not their matter."""
    began = time.monotonic()
    first_token_ms: int | None = None
    metered = await open_metered(context.meter, target.plan(request, context).legs[0].target, request)
    try:
        async with aclosing(shared.listen()) as deltas:
            async for delta in deltas:
                if first_token_ms is None:
                    first_token_ms = _ms_since(began)
                yield delta
    except ApplicationError as error:
        if _told_to_all(error):
            raise
        if first_token_ms is not None:
            raise StreamTruncated("The answer broke off: the call that it shared was ended.") from None
    finally:
        close(metered, _outcome(shared, first_token_ms, _ms_since(began)))
    if shared.error is not None:
        async with aclosing(ask(request, target, context)) as deltas:
            async for delta in deltas:
                yield delta


def _outcome(shared: SharedCall, first_token_ms: int | None, total_ms: int) -> CallOutcome:
    """An answer that was not heard to its end has saved nothing."""
    error = shared.error if isinstance(shared.error, ApplicationError) and _told_to_all(shared.error) else None
    whole = shared.whole
    return CallOutcome(
        shared.usage if whole else None,
        error=error,
        finish_reason=shared.finish_reason if whole else "",
        first_token_ms=first_token_ms,
        total_ms=total_ms,
        reason=JOINED,
        cached=True,
        sent=whole,
    )


def _told_to_all(error: ApplicationError) -> bool:
    """What came of the provider, not of the payer's meter."""
    return isinstance(error, ProviderError | ModelNotFound | Unavailable) or error.code in QUEUE_CODES


def _ms_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)
