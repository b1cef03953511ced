"""Reads of stored events for those who follow runs here."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from core.aio import detached, in_db_thread
from core.tenant import tenant_context
from runs.hub import Hub
from runs.selectors import Page, event_page
from runs.store import Store
from runs.stream import RunKey

PAGE = 500  # events of one read


class Pages:
    """Who asks at once for the same shares one read, which begins after they asked."""

    def __init__(self, store: Store, hub: Hub, is_local: Callable[[UUID], bool]) -> None:
        self._store = store
        self._hub = hub
        self._is_local = is_local
        self._due: dict[tuple[UUID, int], asyncio.Task[Page]] = {}

    async def page(self, key: RunKey, after: int) -> Page:
        """The events that follow the seq `after`; raises what `event_page` does."""
        place = key.run_id, after
        due = self._due.get(place)
        if due is None:
            due = self._due[place] = detached(self._read(key, after), name="event-page")
            due.add_done_callback(lambda done: done.cancelled() or done.exception())  # also when nobody waits any more
        return await asyncio.shield(due)

    async def _read(self, key: RunKey, after: int) -> Page:
        """Asks to be told of further events first. A response is streamed after its view has left the tenant, which is
        entered here.
        """
        await asyncio.sleep(0)
        del self._due[key.run_id, after]
        if not self._is_local(key.run_id) and not self._hub.is_watched(key.run_id):
            await self._store.watch([key])
            self._hub.watched(key.run_id)  # the listener keeps that up
        with tenant_context(key.tenant_id):
            return await in_db_thread(event_page, key=key, after=after, limit=PAGE)
