"""The one door to language models: a plan's targets are tried in order, each call within its limits and metered."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.errors import ApplicationError
from llm.calls import CallContext, call_context
from llm.door.attempt import begin
from llm.door.cache import cached
from llm.door.cleaning import Size
from llm.door.clock import Clock, WholeClock
from llm.door.continuing import Partial
from llm.door.joining import joined
from llm.door.way import Way
from llm.exceptions import ProviderRejected
from llm.targets import Target
from llm.wire import Accumulator, ChatRequest, Completion, Delta


class ModelGateway:
    """Raises ProviderError, ModelNotFound, Unavailable, RateLimited or what the call's meter raises; nothing else.

    Without a CallContext both raise LookupError.
    """

    def stream(self, request: ChatRequest, target: Target) -> AsyncGenerator[Delta, None]:
        """The deltas of one answer. Close the generator to end the call: the provider's connection closes at once.

        A failure after the first delta is never retried: the caller has shown what came before. It is raised, unless
        the plan has another target go on from there.
        """
        context = call_context()
        return joined(request, target, context, _told) if context.join else _told(request, target, context)

    async def complete(self, request: ChatRequest, target: Target) -> Completion:
        """The whole answer; by the provider's own way to give one where that is cheaper than a stream."""
        context = call_context()
        if context.cache is None and not context.join:
            return await _whole(request, target, context)
        answer = Accumulator()
        async with aclosing(self.stream(request, target)) as deltas:
            async for delta in deltas:
                answer.add(delta)
        return answer.completion()


gateway = ModelGateway()


def _told(request: ChatRequest, target: Target, context: CallContext) -> AsyncGenerator[Delta, None]:
    return cached(request, target, context, _streamed) if context.cache else _streamed(request, target, context)


async def _streamed(request: ChatRequest, target: Target, context: CallContext) -> AsyncGenerator[Delta, None]:
    _refuse_several(request)
    clock, size, told = Clock(), Size(), Partial()
    way = Way(request, target.plan(request, context), context, clock, told)
    try:
        while True:
            step = await way.next()
            try:
                async with await begin(step, context) as attempt, aclosing(attempt.deltas(clock, size)) as deltas:
                    async for delta in deltas:
                        told.add(delta)
                        yield delta
                return
            except ApplicationError as error:
                way.failed(error)
    finally:
        clock.stop()


async def _whole(request: ChatRequest, target: Target, context: CallContext) -> Completion:
    """Nobody has heard any of it before it is whole, so any failure of a provider may be tried again."""
    _refuse_several(request)
    clock = WholeClock()
    way = Way(request, target.plan(request, context), context, clock, Partial())
    try:
        while True:
            step = await way.next()
            try:
                async with await begin(step, context) as attempt:
                    return await attempt.whole(clock, Size())
            except ApplicationError as error:
                way.failed(error)
    finally:
        clock.stop()


def _refuse_several(request: ChatRequest) -> None:
    if request.params.get("n", 1) not in (1, None):
        raise ProviderRejected("Only one answer a request is given: leave out n.", code="unsupported_value", param="n")
