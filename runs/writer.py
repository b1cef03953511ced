"""The one writer of this process: the events of all its runs share commits, and are shown once they are stored.

Those of a run that ends with its caller are shown before, and stored soon.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from uuid import UUID

import psycopg
from django.conf import settings

from core.aio import detached
from runs.hub import Hub
from runs.store import Store, Write, Written, payloads
from runs.stream import MAX_PENDING, RunStream

logger = logging.getLogger(__name__)
BEAT = 0.010  # seconds between the starts of two commits, unless one is urgent
QUIET_BEAT = 0.25  # seconds until what an unhurried run says is stored
BATCH = 128  # runs of one commit: while more of them wait, readers get what is stored sooner
LOCKED_SECONDS = 1.0  # after a row was found locked, for which such rows are skipped
MAX_PENDING_ALL = 32 * 1024 * 1024  # characters of all runs that are not stored
_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError)


class Writer:
    """Stores what runs publish until the database has it; while that takes long, `room` makes the runs wait.

    `on_cancel` hears of runs that somebody asked to stop, when a lease says so.
    """

    def __init__(self, store: Store, hub: Hub, on_cancel: Callable[[UUID], None]) -> None:
        self.size = 0  # characters that are not stored
        self._store = store
        self._hub = hub
        self._on_cancel = on_cancel
        self._waiting: dict[RunStream, None] = {}
        self._quiet: dict[RunStream, asyncio.TimerHandle] = {}  # those that will wait soon
        self._showing: set[RunStream] = set()  # those that will be shown early
        self._streams: set[RunStream] = set()
        self._news: dict[str, set[UUID]] = {}  # for other processes, by kind
        self._urgent = asyncio.Event()
        self._stored = asyncio.Event()  # set, and replaced, after every commit
        self._started = 0.0
        self._locks_until = 0.0
        self._work: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        return self.size >= MAX_PENDING_ALL

    def add(self, stream: RunStream) -> None:
        """Keep the run's lease from now on."""
        self._streams.add(stream)
        if self._beat is None or self._beat.done():
            self._beat = detached(self._keep_leases(), name="run-leases")

    def remove(self, stream: RunStream) -> None:
        self._streams.discard(stream)
        self._forget(stream)
        stream.discard()
        if not self._streams and self._beat is not None:
            self._beat.cancel()
            self._beat = None  # a run that begins before it has ended needs another

    def wake(self, stream: RunStream) -> None:
        if stream.early and stream not in self._showing:
            self._showing.add(stream)
            asyncio.get_running_loop().call_soon(self._show, stream)
        if not stream.unhurried:
            self._hurry(stream)
        elif stream not in self._quiet and stream not in self._waiting:
            self._quiet[stream] = asyncio.get_running_loop().call_later(QUIET_BEAT, self._hurry, stream)

    def _show(self, stream: RunStream) -> None:
        """Shown once more when it is stored, to those who have come meanwhile."""
        self._showing.discard(stream)
        try:
            events = stream.show()
        except Exception as fault:
            _lose(stream, fault)
        else:
            if events:
                self._hub.deliver(stream.key.run_id, events)

    def _hurry(self, stream: RunStream) -> None:
        if (timer := self._quiet.pop(stream, None)) is not None:
            timer.cancel()
        self._waiting[stream] = None
        if stream.waited_for:
            self._urgent.set()
        self._ensure_work()

    def _forget(self, stream: RunStream) -> None:
        self._waiting.pop(stream, None)
        if (timer := self._quiet.pop(stream, None)) is not None:
            timer.cancel()

    def _ensure_work(self) -> None:
        if self._work is None or self._work.done():
            self._work = detached(self._write_all(), name="event-log")

    def tell(self, kind: str, id: UUID) -> None:
        """Notify the other processes, soon, of `r` a run with news, `s` a session with a new run, `c` a run that shall
        stop, `d` a run that may be claimed, `a` a run that waits for what was decided, `p` a session in which somebody
        came, went or types.
        """
        self._news.setdefault(kind, set()).add(id)
        self._ensure_work()

    async def room(self, stream: RunStream) -> None:
        if stream in self._quiet:
            self._hurry(stream)
        while (stream.size >= MAX_PENDING or self.is_full) and not stream.lost:
            await self._stored.wait()

    async def settled(self, stream: RunStream) -> None:
        """Returns once nothing of the run is on its way to the database; what it said since then stays with it."""
        while stream.is_taken:
            await self._stored.wait()
        self._forget(stream)

    async def flushed(self, stream: RunStream) -> None:
        """Returns once all that the run said is stored, or the run is lost."""
        if stream in self._quiet:
            self._hurry(stream)
        while (stream in self._waiting or stream.is_taken) and not stream.lost:
            await self._stored.wait()

    async def told(self) -> None:
        """Returns once the other processes are notified of all that there was to tell, or that cannot be done."""
        if self._work is not None:
            await asyncio.wait([self._work], timeout=2)

    async def close(self) -> None:
        for task in (self._work, self._beat):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _write_all(self) -> None:
        while self._waiting or self._news:
            await self._pace()
            streams = [stream for stream in islice(self._waiting, BATCH) if not stream.lost]
            self._waiting = dict.fromkeys(islice(self._waiting, BATCH, None))
            try:
                if streams:
                    await self._write(streams)
                await self._notify()
            except Exception as error:
                level = logging.WARNING if isinstance(error, _FAULTS) else logging.ERROR
                logger.log(level, "The event log cannot be written; runs wait", exc_info=True)
                taken = [stream for stream in streams if stream.is_taken]
                self._waiting = dict.fromkeys([*taken, *self._waiting])
                await asyncio.sleep(0.1)
            stored, self._stored = self._stored, asyncio.Event()
            stored.set()

    async def _pace(self) -> None:
        """At once when somebody waits for a first word, or more than one commit is due, else on the beat."""
        loop = asyncio.get_running_loop()
        rest = self._started + BEAT - loop.time()
        if rest > 0 and len(self._waiting) <= BATCH:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), rest)
        self._urgent.clear()
        self._started = loop.time()

    async def _write(self, streams: Sequence[RunStream]) -> None:
        for stream in self._showing.intersection(streams):
            self._show(stream)
        writes = {stream: write for stream in streams if (write := _write_of(stream)) is not None}
        if not writes:
            return
        try:
            done = await self._store_all(list(writes.values()))
        except psycopg.Error as error:
            if isinstance(error, _FAULTS):
                raise
            await self._write_apart(list(writes), error)
            return
        held = None if done.held is None else set(done.held)
        for stream, write in writes.items():
            if held is None or stream.key.run_id in held:
                self._landed(stream, write.last)
        for run_id in done.cancelled:
            self._on_cancel(run_id)
        if held is not None:
            await self._sort_out({stream: write for stream, write in writes.items() if stream.key.run_id not in held})
        self._news.setdefault("r", set()).update(done.watched)

    async def _store_all(self, writes: Sequence[Write]) -> Written:
        """Somebody who holds the row of one lease shall not keep the other runs waiting."""
        now = asyncio.get_running_loop().time()
        if now >= self._locks_until:
            try:
                return await self._store.write(writes)
            except psycopg.errors.LockNotAvailable:
                self._locks_until = now + LOCKED_SECONDS
        return await self._store.write(writes, skip_locked=True)

    async def _write_apart(self, streams: Sequence[RunStream], fault: Exception) -> None:
        """One run says what the database does not take: the others go on without it."""
        if len(streams) == 1:
            _lose(streams[0], fault)
            return
        half = len(streams) // 2
        await self._write(streams[:half])
        await self._write(streams[half:])

    def _landed(self, stream: RunStream, last: int) -> None:
        if not stream.lost:
            self._hub.deliver(stream.key.run_id, stream.landed(last))

    async def _sort_out(self, missing: Mapping[RunStream, Write]) -> None:
        """Stored by a commit whose answer was lost, locked by somebody for a moment, or no longer ours."""
        places = await self._store.look([write.key for write in missing.values()])
        for stream, write in missing.items():
            place = places.get(stream.key.run_id)
            if place is None or place.fence != stream.fence or not write.after <= place.last_seq <= write.last:
                stream.lose()
            elif not stream.lost:
                self._landed(stream, place.last_seq)
                if stream.is_taken:
                    self._waiting[stream] = None
        self._news.setdefault("r", set()).update(places)

    async def _notify(self) -> None:
        """After the commit of what it is about. What could not be told is told again."""
        news, self._news = self._news, {}
        try:
            for kind, ids in news.items():
                for payload in payloads(kind, ids):
                    await self._store.notify(payload)
        except Exception:
            for kind, ids in news.items():
                self._news.setdefault(kind, set()).update(ids)
            raise

    async def _keep_leases(self) -> None:
        rest = settings.RUN_LEASE_SECONDS / 3
        while self._streams:
            await asyncio.sleep(rest)
            try:
                await self._renew()
                rest = settings.RUN_LEASE_SECONDS / 3
            except _FAULTS:
                logger.warning("Leases of runs cannot be renewed", exc_info=True)
                rest = settings.RUN_LEASE_SECONDS / 15

    async def _renew(self) -> None:
        streams = [stream for stream in self._streams if not stream.lost]
        held = await self._store.renew([(stream.key, stream.fence) for stream in streams]) if streams else {}
        for run_id, shall_stop in held.items():
            if shall_stop:
                self._on_cancel(run_id)
        missing = [stream for stream in streams if stream.key.run_id not in held]
        places = await self._store.look([stream.key for stream in missing]) if missing else {}
        for stream in missing:
            place = places.get(stream.key.run_id)
            if stream in self._streams and (place is None or place.fence != stream.fence):
                stream.lose()


def _write_of(stream: RunStream) -> Write | None:
    """None for a run that said what no event can carry: it is lost."""
    after = stream.stored
    try:
        return Write(stream.key, stream.run, stream.fence, after, stream.take())
    except Exception as fault:
        _lose(stream, fault)
        return None


def _lose(stream: RunStream, fault: Exception) -> None:
    logger.error("A run's events cannot be stored", exc_info=fault, extra={"run_id": stream.run})
    stream.lose()
