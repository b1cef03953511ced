"""The one door to language models: deadlines, and retries before the first token, around whichever adapter answers."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from django.conf import settings

from llm.exceptions import ProviderError, ProviderRejected, ProviderTimeout
from llm.providers.base import CompletingAdapter
from llm.targets import ModelTarget
from llm.wire import Accumulator, ChatRequest, Completion, Delta

BACKOFF = 0.2  # seconds, doubled with every attempt, times 0.5 to 1.5


@dataclass(slots=True)
class _Deadlines:
    """Moments of the loop's clock. The first token's counts from the start of the call, retries included."""

    first_token: float
    total: float

    @classmethod
    def start(cls) -> "_Deadlines":
        now = asyncio.get_running_loop().time()
        total = now + settings.LLM_TOTAL_TIMEOUT
        return cls(min(now + settings.LLM_FIRST_TOKEN_TIMEOUT, total), total)


class ModelGateway:
    """Raises `llm.exceptions.ProviderError`, `ModelNotFound` or `core.errors.Unavailable`; nothing else."""

    async def stream(self, request: ChatRequest, target: ModelTarget) -> AsyncGenerator[Delta, None]:
        """The deltas of one answer. Close the generator to end the call: the provider's connection closes at once.

        A failure after the first delta is raised and never retried: the caller has shown what came before.
        """
        _refuse_several(request)
        deadlines = _Deadlines.start()
        attempt = 0
        while True:
            attempt += 1
            started = False
            try:
                async with aclosing(_attempt(request, target, deadlines)) as deltas:
                    async for delta in deltas:
                        started = True
                        yield delta
                return
            except ProviderError as error:
                wait = None if started else _wait(error, attempt, deadlines.first_token)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def complete(self, request: ChatRequest, target: ModelTarget) -> Completion:
        """The whole answer; by the provider's own way to give one where that is cheaper than a stream."""
        _refuse_several(request)
        if not isinstance(target.open(), CompletingAdapter):
            return await self._collect(request, target)
        deadlines = _Deadlines.start()
        attempt = 0
        while True:
            attempt += 1
            try:
                return await _whole_attempt(request, target, deadlines)
            except ProviderError as error:
                wait = _wait(error, attempt, deadlines.total)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _collect(self, request: ChatRequest, target: ModelTarget) -> Completion:
        answer = Accumulator()
        async with aclosing(self.stream(request, target)) as deltas:
            async for delta in deltas:
                answer.add(delta)
        return answer.completion()


gateway = ModelGateway()


async def _attempt(request: ChatRequest, target: ModelTarget, deadlines: _Deadlines) -> AsyncGenerator[Delta, None]:
    clock = asyncio.get_running_loop().time
    limit = deadlines.first_token
    async with aclosing(target.open().stream(request)) as deltas:
        while True:
            try:
                async with asyncio.timeout_at(limit):
                    delta = await anext(deltas, None)
            except TimeoutError:
                raise ProviderTimeout("The model did not go on in time.") from None
            if delta is None:
                return
            yield delta
            limit = min(clock() + settings.LLM_IDLE_TIMEOUT, deadlines.total)


async def _whole_attempt(request: ChatRequest, target: ModelTarget, deadlines: _Deadlines) -> Completion:
    adapter = target.open()
    assert isinstance(adapter, CompletingAdapter)
    try:
        async with asyncio.timeout_at(deadlines.total):
            return await adapter.complete(request)
    except TimeoutError:
        raise ProviderTimeout("The model did not answer in time.") from None


def _wait(error: ProviderError, attempt: int, deadline: float) -> float | None:
    """Seconds until the next attempt; None when there is none, or it would come too late."""
    if not error.retryable or attempt >= settings.LLM_ATTEMPTS:
        return None
    wait = error.retry_after
    if wait is None:
        wait = BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 spreads retries, guards nothing
    late = asyncio.get_running_loop().time() + wait >= deadline
    return None if late or wait > settings.LLM_MAX_RETRY_WAIT else wait


def _refuse_several(request: ChatRequest) -> None:
    if request.params.get("n", 1) not in (1, None):
        raise ProviderRejected("Only one answer a request is given: leave out n.", code="unsupported_value", param="n")
