"""One call of a provider: metered from its beginning, and told to the breaker and the health at its end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType

import msgspec

from core.errors import ApplicationError
from llm.calls import CallContext, CallOutcome, MeteredCall
from llm.door import health
from llm.door.circuits import breakers
from llm.door.cleaning import Size, clean, clean_completion
from llm.door.clock import Clock
from llm.door.settling import close, open_metered
from llm.door.way import Step
from llm.exceptions import ProviderError, ProviderTimeout, StreamTruncated
from llm.providers.base import Adapter, CompletingAdapter
from llm.wire import Accumulator, ChatRequest, Completion, Delta, Usage

logger = logging.getLogger(__name__)
UNBOUNDED = 100_000  # tokens; no answer is longer


async def begin(step: Step, context: CallContext) -> "Attempt":
    """Raises what the meter raises; the step is then given back."""
    try:
        metered = await open_metered(context.meter, step.target, step.request)
        return Attempt(replace(step, request=_bounded(step.request, metered.most_tokens)), metered)
    except BaseException:
        step.permit.give_back(None)
        if step.probe:
            breakers.left(step.target.endpoint)
        raise


def _bounded(request: ChatRequest, most: int | None) -> ChatRequest:
    """The provider is told the longest answer that can be paid for: what a model thinks unheard counts as well."""
    params = request.params
    name = "max_tokens" if "max_tokens" in params else "max_completion_tokens"
    if most is None or (params.get(name) or UNBOUNDED) <= most:
        return request
    return msgspec.structs.replace(request, params={**params, name: most})


class Attempt:
    """Enter it, and ask for `deltas` or `whole` once. Its end is metered once, however it comes."""

    def __init__(self, step: Step, metered: MeteredCall) -> None:
        self._step = step
        self._metered = metered
        self._usage: Usage | None = None
        self._finish = ""
        self._began = time.monotonic()
        self._first_token_ms: int | None = None
        self._owes = False  # more must be reserved before more is said
        self._refused = False  # by the meter
        self._probe = step.probe

    async def __aenter__(self) -> "Attempt":
        self._record = health.began(self._step.target.endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tell_breaker(error)
        try:
            close(self._metered, self._outcome(error))
        finally:
            self._step.permit.give_back(self._usage)

    async def deltas(self, clock: Clock, size: Size) -> AsyncGenerator[Delta, None]:
        """Raises ProviderError, ModelNotFound, Unavailable, or what the meter raises when it has no more to give."""
        async with aclosing(self._open().stream(self._step.request)) as deltas:
            while (delta := await self._next(deltas, clock)) is not None:
                if self._owes:
                    await self._extend()
                size.add(delta)
                self._count(clean(delta))
                if self._first_token_ms is not None:  # counts alone begin nothing: another target may still be asked
                    yield delta
        self._refuse_unfinished()

    async def whole(self, clock: Clock, size: Size) -> Completion:
        """As `deltas` does, in the provider's cheapest way."""
        adapter = self._open()
        if isinstance(adapter, CompletingAdapter):
            answer = clean_completion(await self._complete(adapter, clock.first_token))
            self._usage, self._finish = answer.usage, answer.finish_reason
            self._metered.said(answer.delta())
            self._refuse_unfinished()
            return answer
        clock.in_pieces()
        collected = Accumulator()
        async with aclosing(self.deltas(clock, size)) as deltas:
            async for delta in deltas:
                collected.add(delta)
        return collected.completion()

    async def _extend(self) -> None:
        try:
            await self._metered.extend()
        except ApplicationError:
            self._refused = True
            raise

    def _open(self) -> Adapter:
        try:
            return self._step.target.open()
        except ApplicationError:
            raise
        except Exception as error:
            raise self._broken(error) from None

    async def _next(self, deltas: AsyncGenerator[Delta, None], clock: Clock) -> Delta | None:
        try:
            return await clock.next(deltas, first=self._first_token_ms is None)
        except ApplicationError:
            raise
        except Exception as error:
            raise self._broken(error) from None

    async def _complete(self, adapter: CompletingAdapter, deadline: float) -> Completion:
        try:
            async with asyncio.timeout_at(deadline):
                return await adapter.complete(self._step.request)
        except TimeoutError:
            raise ProviderTimeout("The model did not answer in time.") from None
        except ApplicationError:
            raise
        except Exception as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> ProviderError:
        """For whatever else a third party's adapter raises."""
        logger.error("The adapter of provider kind %s failed", self._step.target.connection.kind, exc_info=error)
        return ProviderError("The provider's adapter failed.", code="provider_adapter_failed", retryable=False)

    def _refuse_unfinished(self) -> None:
        if not self._finish:
            raise StreamTruncated("The provider's answer broke off before its end.")

    def _count(self, delta: Delta) -> None:
        if self._first_token_ms is None and delta.says:
            self._first_token()
            delta.usage = delta.usage or self._usage
        if delta.finish_reason:
            self._finish = delta.finish_reason
        if delta.usage is not None:
            self._usage = delta.usage
        self._owes = self._metered.said(delta)

    def _first_token(self) -> None:
        self._first_token_ms = self._elapsed_ms()
        health.first_token(self._record, self._first_token_ms)
        if self._probe:
            self._probe = False
            breakers.heard(self._step.target.endpoint)

    def _tell_breaker(self, error: BaseException | None) -> None:
        endpoint = self._step.target.endpoint
        failed = isinstance(error, ApplicationError) and not self._refused
        health.ended(self._record)
        if not self._step.guarded:
            return
        if error is None:
            breakers.succeeded(endpoint, probe=self._probe)
        elif isinstance(error, ApplicationError) and failed:
            breakers.failed(endpoint, error, probe=self._probe)
        elif self._probe:
            breakers.left(endpoint)

    def _outcome(self, error: BaseException | None) -> CallOutcome:
        return CallOutcome(
            usage=self._usage,
            error=error if isinstance(error, ApplicationError) else None,
            finish_reason=self._finish,
            first_token_ms=self._first_token_ms,
            total_ms=self._elapsed_ms(),
            route=self._step.route,
            variant=self._step.variant,
            reason=self._step.reason,
            leg=self._step.leg,
            attempt=self._step.attempt,
        )

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)
