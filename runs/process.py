"""What this process holds of runs: the log's writer, who follows, who listens; made at an event loop's first use."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4, uuid5

from core.aio import detached
from runs.audience import Announce, Audience, Member
from runs.hub import Hub
from runs.listener import Listener
from runs.pages import Pages
from runs.presence import Presence
from runs.presence_store import PresenceStore
from runs.socket_watch import SocketWatch
from runs.store import Store
from runs.stream import RunKey, RunStream
from runs.tail import Tail
from runs.writer import Writer
from sessions_app.models import ChatSession

logger = logging.getLogger(__name__)
OWNER = uuid4()  # this process, in the leases of its runs


def topic_of(session: ChatSession) -> UUID:
    """Under which a session's runs are announced."""
    return awaited_topic(session.tenant_id, session.external_id) if session.external_id else session.id


def awaited_topic(tenant_id: UUID, external_id: str) -> UUID:
    """Of a session that clients name themselves: known before it is made."""
    return uuid5(tenant_id, external_id)


class Process:
    """`live` are the runs of this process; `moving` gives them up, `leaving` those that wait for a person."""

    def __init__(self) -> None:
        self.store = Store()
        self.hub = Hub()
        self.live: dict[UUID, RunStream] = {}
        self.tasks: dict[UUID, asyncio.Task[None]] = {}
        self.cancelled: set[UUID] = set()
        self.waiting: dict[UUID, list[Callable[[], None]]] = {}  # the runs of this process that wait for persons
        self.ending: set[UUID] = set()  # runs whose end is being stored: nothing stops them any more
        self._background: set[asyncio.Task[None]] = set()
        self.leaving = self.moving = False
        self.given_up: set[UUID] = set()
        self.writer = Writer(self.store, self.hub, self.cancel)
        self.listener = Listener(self.store, self.hub, self.live.__contains__, self._look_everywhere)
        self.tail = Tail(Store(), self.hub)
        self.pages = Pages(self.store, self.hub, self.live.__contains__)
        self.presence = Presence(OWNER, PresenceStore(), partial(self.writer.tell, "p"))
        self.listener.on |= {"r": self._has_news, "c": self.cancel, "s": self._announced, "a": self.wake}
        self.listener.on["p"] = self.presence.look
        self.sockets = SocketWatch()
        self._topics: dict[UUID, set[Announce]] = {}
        self._audiences: dict[UUID, Audience] = {}
        self._telling = 0
        self._told = asyncio.Event()
        self._told.set()

    def _look_everywhere(self) -> None:
        self.hub.look_all()
        for topic in list(self._topics):
            self._announced(topic)
        self.presence.look_all()

    def cancel(self, run_id: UUID) -> None:
        """Stop a run of this process: its model call is closed at once. Nothing happens when it is not here."""
        if run_id in self.live and run_id not in self.cancelled:
            self.cancelled.add(run_id)
            self.interrupt(run_id)

    def _has_news(self, run_id: UUID) -> None:
        if run_id in self.live:
            self.hub.look(run_id)
        else:
            self.tail.read(run_id)

    def wake(self, run_id: UUID) -> None:
        """Something was decided that a run waits for."""
        for wake in self.waiting.get(run_id, ()):
            wake()

    def interrupt(self, run_id: UUID) -> None:
        """Soon: a task that has not begun would end without its end."""
        asyncio.get_running_loop().call_soon(self._interrupt, run_id)

    def give_up(self, run_id: UUID) -> None:
        """Another process shall have the run, if somebody may come back for it."""
        self.given_up.add(run_id)
        self.interrupt(run_id)

    @contextmanager
    def waits(self, run_id: UUID, wake: Callable[[], None]) -> Iterator[None]:
        """While the run waits for a person: `wake` is called when something was decided."""
        self.waiting.setdefault(run_id, []).append(wake)
        if self.leaving:
            self.give_up(run_id)
        try:
            yield
        finally:
            others = self.waiting[run_id]
            others.remove(wake)
            if not others:
                del self.waiting[run_id]

    def _interrupt(self, run_id: UUID) -> None:
        task = self.tasks.get(run_id)
        if task is not None and run_id not in self.ending:
            task.cancel()

    @contextmanager
    def session(self, topic: UUID, announce: Announce) -> Iterator[None]:
        """`announce` hears of every new run of a session; without its key when another process has begun it."""
        self._topics.setdefault(topic, set()).add(announce)
        try:
            yield
        finally:
            self._silence(topic, announce)

    def _silence(self, topic: UUID, announce: Announce) -> None:
        others = self._topics[topic]
        others.discard(announce)
        if not others:
            del self._topics[topic]

    @contextmanager
    def audience(self, topic: UUID, tenant_id: UUID, ref: str, member: Member) -> Iterator[None]:
        """The member hears of every new run of the session `ref`."""
        audience = self._audiences.get(topic)
        if audience is None:
            audience = self._audiences[topic] = Audience(tenant_id, ref)
            self._topics.setdefault(topic, set()).add(audience.announce)
        audience.members.add(member)
        try:
            yield
        finally:
            audience.members.discard(member)
            if not audience.members:
                del self._audiences[topic]
                self._silence(topic, audience.announce)

    def announce(self, topic: UUID, key: RunKey) -> None:
        for announce in list(self._topics.get(topic, ())):
            announce(key)
        self.writer.tell("s", topic)

    def _announced(self, topic: UUID) -> None:
        for announce in list(self._topics.get(topic, ())):
            announce(None)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """While somebody is told of a run."""
        self._telling += 1
        self._told.clear()
        try:
            yield
        finally:
            self._telling -= 1
            if not self._telling:
                self._told.set()

    async def told(self, seconds: float) -> None:
        """Returns once nobody is being told of a run, or after so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Outside the caller's context and for as long as it takes; a fault goes to the log."""
        task = detached(_logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def settled(self, seconds: float) -> None:
        """Returns once all background work is done, or after so long."""
        if self._background:
            await asyncio.wait(set(self._background), timeout=seconds)

    async def close(self) -> None:
        await self.listener.close()
        await self.tail.close()
        await self.presence.close()
        await self.writer.close()
        await self.store.close()


async def _logged(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except Exception:
        logger.exception("Background work on runs failed")


_processes: dict[asyncio.AbstractEventLoop, tuple[Process, AsyncGenerator[Process, None]]] = {}


async def process() -> Process:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    held = _processes.get(loop)
    if held is None:
        lifetime = _lifetime(loop)
        held = _processes[loop] = (await anext(lifetime), lifetime)
    return held[0]


async def _lifetime(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Process, None]:
    """Suspended until the loop ends: a loop closes its unfinished generators, and this one then closes the rest."""
    held = Process()
    held.listener.start()
    try:
        yield held
    finally:
        _processes.pop(loop, None)
        await held.close()
