"""Identical calls under way share one call of the provider; each caller sees its whole stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from core.errors import ApplicationError
from llm.cache import request_key
from llm.calls import CallContext, CallOutcome
from llm.settling import LONGEST, open_metered, settle
from llm.targets import Target
from llm.wire import ChatRequest, Delta, Usage

Ask = Callable[[ChatRequest, Target, CallContext], AsyncGenerator[Delta, None]]
JOINED = "joined: an identical call was under way"


class SharedCall:
    """One call, made by a task of its own as long as anybody listens. The first listener's meter pays."""

    def __init__(self, source: AsyncGenerator[Delta, None]) -> None:
        self.usage: Usage | None = None
        self.finish_reason = ""
        self._deltas: list[Delta] = []
        self._listeners = 0
        self._news = asyncio.Event()
        self.error: Exception | None = None
        self._task = asyncio.create_task(self._produce(source))

    def join(self) -> None:
        """Before `listen`, and without waiting in between: nobody may find the call given up."""
        self._listeners += 1

    @property
    def given_up(self) -> bool:
        return not self._listeners

    async def listen(self) -> AsyncGenerator[Delta, None]:
        """From the first delta on. Raises what the call raised."""
        place = 0
        while True:
            while place < len(self._deltas):
                yield self._deltas[place]
                place += 1
            if self._task.done() or self.error is not None:
                break
            await self._news.wait()
        if self.error is not None:
            raise self.error

    async def leave(self) -> None:
        """The last one ends the call, and waits a moment for the provider's connection to be closed."""
        self._listeners -= 1
        if not self._listeners and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=LONGEST)

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
            asyncio.get_running_loop().call_soon(self._tell)  # once the task is done

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


_under_way: dict[tuple[object, ...], SharedCall] = {}


async def joined(request: ChatRequest, target: Target, context: CallContext, ask: Ask) -> AsyncGenerator[Delta, None]:
    """The answer to the same request of the same tenant that is under way, or else a new one that others may join."""
    place = (asyncio.get_running_loop(), context.tenant_id, request_key(request, target))
    shared = _under_way.get(place)
    first = shared is None or shared.given_up
    if shared is None or first:
        shared = _under_way[place] = SharedCall(ask(request, target, context))
    shared.join()
    try:
        async with aclosing(shared.listen() if first else _free(shared, request, target, context)) as deltas:
            async for delta in deltas:
                yield delta
    finally:
        if _under_way.get(place) is shared and (first or shared.given_up):
            del _under_way[place]
        await shared.leave()


async def _free(
    shared: SharedCall, request: ChatRequest, target: Target, context: CallContext
) -> AsyncGenerator[Delta, None]:
    """For who came later: in the records, and at no cost."""
    began, first_token_ms = time.monotonic(), None
    metered = await open_metered(context.meter, target.plan(request, context).legs[0].target, request)
    try:
        async with aclosing(shared.listen()) as deltas:
            async for delta in deltas:
                first_token_ms = first_token_ms or _ms_since(began)
                yield delta
    finally:
        outcome = CallOutcome(
            shared.usage,
            error=shared.error if isinstance(shared.error, ApplicationError) else None,
            finish_reason=shared.finish_reason,
            first_token_ms=first_token_ms,
            total_ms=_ms_since(began),
            reason=JOINED,
            cached=True,
        )
        await settle(metered.close(outcome))


def _ms_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)
