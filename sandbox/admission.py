"""Who may use a slot when: so many at once, so many of one tenant, so many that wait."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sandbox.exceptions import SandboxBusy

RETRY_SECONDS = 2.0
Owner = UUID | None
Place = tuple[Owner, asyncio.Future[None]]


class Admission:
    """A freed slot goes to the tenant that has the fewest running; among those to who waits longest."""

    def __init__(self, slots: int, per_tenant: int, queue: int) -> None:
        self._slots, self._per_tenant, self._queue = slots, per_tenant, queue
        self._running: Counter[Owner] = Counter()
        self._waiting: deque[Place] = deque()

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def running_of(self, owner: Owner) -> int:
        return self._running[owner]

    @asynccontextmanager
    async def place(self, owner: Owner) -> AsyncIterator[None]:
        """Waits for a slot. Raises SandboxBusy when too many wait; one tenant may be half of them."""
        if self._is_free(owner):
            self._running[owner] += 1
        else:
            await self._wait(owner)
        try:
            yield
        finally:
            self._running[owner] -= 1
            self._running += Counter()  # forgets who has none
            self._next()

    def _is_free(self, owner: Owner) -> bool:
        return self.running < self._slots and self._running[owner] < self._per_tenant

    async def _wait(self, owner: Owner) -> None:
        own = sum(waiting == owner for waiting, _ in self._waiting)
        if len(self._waiting) >= self._queue or own >= max(1, self._queue // 2):
            raise SandboxBusy(
                "Too much code waits to be run; try again. SANDBOX_SLOTS and SANDBOX_QUEUE on the server raise that.",
                retry_after=RETRY_SECONDS,
            )
        place = (owner, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif place[1].done() and not place[1].cancelled():  # it was let in at the same moment
                self._running[owner] -= 1
                self._next()
            raise

    def _next(self) -> None:
        while ready := [place for place in self._waiting if self._is_free(place[0])]:
            owner, future = place = min(ready, key=lambda each: self._running[each[0]])
            self._waiting.remove(place)
            if not future.done():
                self._running[owner] += 1
                future.set_result(None)
