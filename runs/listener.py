"""Hears what other processes say of runs. Notifications are hints and carry ids only; the tables are the truth.

Who follows a run of another process is told of new events by that process; once a second all followed runs are looked
at as well, in one statement, in case a notification was lost.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import UUID

import psycopg

from core.aio import detached
from runs.hub import Hub
from runs.store import CHANNEL, Store, stream_parameters

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError)


class Listener:
    """`on` has what to do with each kind of notification, by its letter, for each id that it names.

    `on_gap` is called when some may have been missed.
    """

    def __init__(self, store: Store, hub: Hub, is_local: Callable[[UUID], bool], on_gap: Callable[[], None]) -> None:
        self.on: dict[str, Callable[[UUID], None]] = {}
        self._on_gap = on_gap
        self._store = store
        self._hub = hub
        self._is_local = is_local
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """At the first call only."""
        if not self._tasks:
            self._tasks = [detached(self._listen(), name="notifications"), detached(self._poll(), name="run-poll")]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**stream_parameters()) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self._on_gap()
                    async for notification in connection.notifies():
                        if notification.pid != self._store.backend:  # this process knows what it said itself
                            self._hear(notification.payload)
            except _FAULTS:
                logger.warning("No notifications come from the database; runs are looked at once a second")
            await asyncio.sleep(POLL_SECONDS)

    def _hear(self, payload: str) -> None:
        act = self.on.get(payload[:1])
        if act is not None:
            for id in _ids(payload[1:]):
                act(id)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._look()
            except _FAULTS:
                logger.debug("Followed runs cannot be looked at", exc_info=True)

    async def _look(self) -> None:
        keys = {run_id: key for run_id, key in self._hub.keys().items() if not self._is_local(run_id)}
        if not keys:
            return
        await self._store.watch(list(keys.values()))
        places = await self._store.look(list(keys.values()))
        for run_id in keys:
            place = places.get(run_id)
            if place is None:
                self._hub.look(run_id)  # it has ended, or is gone
            elif self._hub.behind(run_id, place.last_seq):
                self.on["r"](run_id)


def _ids(text: str) -> Iterator[UUID]:
    for name in text.split(","):
        with suppress(ValueError):
            yield UUID(hex=name)
