"""The deadlines of a model call."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from django.conf import settings

from llm.exceptions import ProviderTimeout
from llm.wire import Delta


class Clock:
    """The deadlines of one call, kept by one timer: a timer for each delta would cost more than reading the delta.

    `total` bounds the call over all its targets. Each target has its own `first_token`, its retries included; a silence
    is counted from the moment at which the caller wants the next delta. All are times of the running loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.total = self._loop.time() + settings.LLM_TOTAL_TIMEOUT
        self.first_token = self._limit = self.total
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None  # while it waits for a delta
        self._expired = False

    def begin(self, targets: int) -> None:
        """A target gets its time; `targets` are left, itself included."""
        self.first_token = min(self._loop.time() + settings.LLM_FIRST_TOKEN_TIMEOUT, self.total)

    async def next(self, deltas: AsyncGenerator[Delta, None], *, first: bool) -> Delta | None:
        """The next delta, or None after the last; raises ProviderTimeout, which has then ended the generator."""
        idle = self._loop.time() + settings.LLM_IDLE_TIMEOUT
        self._arm(self.first_token if first else min(idle, self.total))
        task = self._task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            return await anext(deltas, None)
        except BaseException:  # what an adapter makes of the cancellation is no matter
            if self._expired and task.uncancel() <= cancelling:
                raise ProviderTimeout("The model did not go on in time.") from None
            raise
        finally:
            self._task, self._expired = None, False

    def in_pieces(self) -> None:
        """The target's answer comes in pieces, though it is wanted whole: the first one has its own deadline."""
        self.first_token = min(self.first_token, self._loop.time() + settings.LLM_FIRST_TOKEN_TIMEOUT)

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


class WholeClock(Clock):
    """For answers that come in one piece: the targets that are left share the time that is left."""

    def begin(self, targets: int) -> None:
        now = self._loop.time()
        self.first_token = now + (self.total - now) / targets
