"""Deadlines that stand still while a person is waited for."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar


class Deadline:
    """Seconds for what is done within it. Several may stop it at once: it goes on after the last of them."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._stops = 0
        self._left = 0.0

    @property
    def expired(self) -> bool:
        return self._limit.expired()

    def stop(self) -> None:
        when = self._limit.when()
        if not self._stops and when is not None and not self.expired:
            self._left = when - asyncio.get_running_loop().time()
            self._limit.reschedule(None)
        self._stops += 1

    def go(self) -> None:
        self._stops -= 1
        if not self._stops and not self.expired:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._left)


_around: ContextVar[tuple[Deadline, ...]] = ContextVar("deadlines", default=())


def current_deadlines() -> Sequence[Deadline]:
    """Those of what is being done, the outermost first."""
    return _around.get()


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[Deadline]:
    """Raises TimeoutError after so many seconds, as `asyncio.timeout` does."""
    async with asyncio.timeout(seconds) as limit:
        held = Deadline(limit)
        token = _around.set((*_around.get(), held))
        try:
            yield held
        finally:
            _around.reset(token)


@contextmanager
def stopped(deadlines: Sequence[Deadline]) -> Iterator[None]:
    for each in deadlines:
        each.stop()
    try:
        yield
    finally:
        for each in deadlines:
            each.go()
