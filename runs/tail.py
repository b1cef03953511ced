"""Brings what other processes store of the runs that are followed here: one statement for all that were named."""

import asyncio
import logging
from contextlib import suppress
from uuid import UUID

import psycopg

from core.aio import detached
from runs.hub import MAILBOX, Hub
from runs.store import Store

logger = logging.getLogger(__name__)
BEAT = 0.0  # seconds for which names are gathered
_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError)


class Tail:
    """Its connection is its own, so that no commit of this process waits for a read."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._named: set[UUID] = set()
        self._work: asyncio.Task[None] | None = None

    def read(self, run_id: UUID) -> None:
        """Soon. Names that come during a read share the next one."""
        if self._hub.followers(run_id):
            self._named.add(run_id)
            if self._work is None or self._work.done():
                self._work = detached(self._read_all(), name="event-tail")

    async def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        await self._store.close()

    async def _read_all(self) -> None:
        while self._named:
            await asyncio.sleep(BEAT)
            named, self._named = self._named, set()
            try:
                await self._read(named)
            except _FAULTS:
                logger.warning("The news of other processes' runs cannot be read together; each follower tries")
                for run_id in named:
                    self._hub.look(run_id)

    async def _read(self, named: set[UUID]) -> None:
        asked = [(self._hub.key(run_id), after) for run_id in named if (after := self._hub.reached(run_id)) is not None]
        found = await self._store.read(asked, MAILBOX) if asked else {}
        for run_id, events in sorted(found.items(), key=lambda one: one[1][0].at):  # as a session's runs begin
            self._hub.deliver(run_id, events)
            if len(events) == MAILBOX:
                self._hub.look(run_id)
