"""The one door to language models: deadlines, and retries before the first token, around whichever adapter answers."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from django.conf import settings

from core.errors import ApplicationError
from core.validation import storable, storable_text
from llm.calls import CallOutcome, MeteredCall, call_context
from llm.exceptions import BadAnswer, ProviderError, ProviderRejected, ProviderTimeout
from llm.providers.base import CompletingAdapter
from llm.targets import ModelTarget
from llm.wire import Accumulator, ChatRequest, Completion, Delta, ToolCall, ToolCallDelta, Usage

MAX_CALL_ID = 200  # characters
BACKOFF = 0.2  # seconds, doubled with every attempt, times 0.5 to 1.5


class _Clock:
    """The deadlines of one call, kept by one timer: a timer for each delta would cost more than reading the delta.

    The first token's counts from the start of the call, retries included; a silence is counted from the moment at which
    the caller wants the next delta.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.total = now + settings.LLM_TOTAL_TIMEOUT
        self.first_token = min(now + settings.LLM_FIRST_TOKEN_TIMEOUT, self.total)
        self._limit = self.first_token
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None  # while it waits for a delta
        self._expired = False

    async def next(self, deltas: AsyncGenerator[Delta, None], *, first: bool) -> Delta | None:
        """The next delta, or None after the last; raises ProviderTimeout, which has then ended the generator."""
        idle = self._loop.time() + settings.LLM_IDLE_TIMEOUT
        self._arm(self.first_token if first else min(idle, self.total))
        task = self._task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            delta = await anext(deltas, None)
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= cancelling:
                raise ProviderTimeout("The model did not go on in time.") from None
            raise
        finally:
            self._task = None
        return delta

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, limit: float) -> None:
        self._limit = limit
        if self._timer is None or self._timer.when() > limit:
            self.stop()
            self._timer = self._loop.call_at(limit, self._ring)

    def _ring(self) -> None:
        """The limit has usually moved on since the timer was set."""
        self._timer = None
        if self._loop.time() < self._limit:
            self._arm(self._limit)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()


class _Size:
    """How much of an answer there is; a provider without an end must not fill the memory."""

    def __init__(self) -> None:
        self._characters = 0
        self._deltas = 0

    def add(self, delta: Delta) -> None:
        """Raises BadAnswer beyond LLM_MAX_ANSWER characters or LLM_MAX_DELTAS pieces."""
        self._deltas += 1 + len(delta.tool_calls or ())
        self._characters += len(delta.text or "") + len(delta.reasoning or "") + len(delta.refusal or "")
        for call in delta.tool_calls or ():
            self._characters += len(call.arguments)
        if self._characters > settings.LLM_MAX_ANSWER or self._deltas > settings.LLM_MAX_DELTAS:
            raise BadAnswer("The model's answer is longer than is accepted.", retryable=False)


class ModelGateway:
    """Raises `llm.exceptions.ProviderError`, `ModelNotFound` or `core.errors.Unavailable`; nothing else."""

    async def stream(self, request: ChatRequest, target: ModelTarget) -> AsyncGenerator[Delta, None]:
        """The deltas of one answer. Close the generator to end the call: the provider's connection closes at once.

        A failure after the first delta is raised and never retried: the caller has shown what came before.
        """
        _refuse_several(request)
        clock, size, attempt, started = _Clock(), _Size(), 0, False
        meter = call_context().meter
        try:
            while True:
                attempt += 1
                try:
                    async with (
                        _metered(await meter.open(target, request), attempt) as call,
                        aclosing(target.open().stream(request)) as deltas,
                    ):
                        while (delta := await clock.next(deltas, first=not started)) is not None:
                            started = True
                            size.add(delta)
                            full = call.add(delta)
                            yield _clean(delta)
                            if full:
                                await call.metered.extend()
                    return
                except ProviderError as error:
                    wait = None if started else _wait(error, attempt, clock.first_token)
                    if wait is None:
                        raise
                await asyncio.sleep(wait)
        finally:
            clock.stop()

    async def complete(self, request: ChatRequest, target: ModelTarget) -> Completion:
        """The whole answer; by the provider's own way to give one where that is cheaper than a stream."""
        _refuse_several(request)
        if not isinstance(target.open(), CompletingAdapter):
            return await self._collect(request, target)
        deadline = asyncio.get_running_loop().time() + settings.LLM_TOTAL_TIMEOUT
        attempt = 0
        while True:
            attempt += 1
            try:
                async with _metered(await call_context().meter.open(target, request), attempt) as call:
                    answer = await _whole_attempt(request, target, deadline)
                    call.usage, call.finish_reason = answer.usage, answer.finish_reason
                return _clean_completion(answer)
            except ProviderError as error:
                wait = _wait(error, attempt, deadline)
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


class _Attempt:
    def __init__(self, metered: MeteredCall) -> None:
        self.metered = metered
        self.began = time.monotonic()
        self.first_token: float | None = None
        self.usage: Usage | None = None
        self.finish_reason = ""

    def add(self, delta: Delta) -> bool:
        self.first_token = self.first_token or time.monotonic()
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason
        return self.metered.said(delta)

    def outcome(self, attempt: int, error: ApplicationError | None) -> CallOutcome:
        first = None if self.first_token is None else int((self.first_token - self.began) * 1000)
        total = int((time.monotonic() - self.began) * 1000)
        return CallOutcome(self.usage, error, self.finish_reason, first, total, attempt=attempt)


@asynccontextmanager
async def _metered(metered: MeteredCall, number: int) -> AsyncIterator[_Attempt]:
    attempt, error = _Attempt(metered), None
    try:
        yield attempt
    except ApplicationError as failure:
        error = failure
        raise
    finally:
        await metered.close(attempt.outcome(number, error))


async def _whole_attempt(request: ChatRequest, target: ModelTarget, deadline: float) -> Completion:
    adapter = target.open()
    assert isinstance(adapter, CompletingAdapter)
    try:
        async with asyncio.timeout_at(deadline):
            return await adapter.complete(request)
    except TimeoutError:
        raise ProviderTimeout("The model did not answer in time.") from None


def _clean(delta: Delta) -> Delta:
    """What a provider says, in characters that can be stored; an id that no column takes is shortened."""
    for name in ("text", "reasoning", "refusal"):
        said = getattr(delta, name)
        if said:
            setattr(delta, name, storable_text(said))
    for call in delta.tool_calls or ():
        _clean_call(call)
    return delta


def _clean_completion(answer: Completion) -> Completion:
    answer.text, answer.reasoning = storable_text(answer.text), storable_text(answer.reasoning)
    answer.refusal = storable_text(answer.refusal)
    for call in answer.tool_calls:
        _clean_call(call)
    return answer


def _clean_call(call: ToolCall | ToolCallDelta) -> None:
    call.arguments = storable_text(call.arguments)
    call.name = storable_text(call.name) if call.name else call.name
    if call.id:
        call.id = _short_id(storable_text(call.id))
    if call.extra_content:
        call.extra_content = storable(call.extra_content)


def _short_id(id: str) -> str:
    """The same for every fragment of a call."""
    return id if len(id) <= MAX_CALL_ID else f"call_{hashlib.sha256(id.encode()).hexdigest()}"


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
