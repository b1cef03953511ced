"""A run under way in this process: its events so far, and everybody who follows them.

Followers read one shared list, each at its own pace, so a slow one holds up nobody and nothing is sent twice.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

from core.errors import ApplicationError
from runs.events import Event, make_event

Listener = Callable[["RunStream"], None]


class RunStream:
    def __init__(self, *, run_id: UUID, tenant_id: UUID, session_id: UUID | None, thread_id: str) -> None:
        self.run_id = run_id
        self.tenant_id = tenant_id
        self.session_id = session_id
        self.thread_id = thread_id
        self.events: list[Event] = []
        self.error: ApplicationError | None = None
        self._finished = False
        self._changed = asyncio.Event()

    def prepare(self, type: str, fields: dict[str, Any]) -> Event:
        """The next event, not yet seen by anybody: `deliver` it before another is prepared."""
        return make_event(len(self.events) + 1, type, fields)

    def deliver(self, event: Event) -> None:
        self.events.append(event)
        self._finished = event.is_terminal
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def publish(self, type: str, **fields: Any) -> Event:
        event = self.prepare(type, fields)
        self.deliver(event)
        return event

    async def follow(self, after: int = 0, idle: float | None = None) -> AsyncGenerator[Event | None, None]:
        """Every event with a higher `seq` than `after`, in order, until the terminal one.

        None whenever nothing came for `idle` seconds.
        """
        index = after
        while True:
            while index < len(self.events):
                yield self.events[index]
                index += 1
            if self._finished:
                return
            try:
                async with asyncio.timeout(idle):
                    await self._changed.wait()
            except TimeoutError:
                yield None

    async def ended(self) -> None:
        async for _ in self.follow(after=len(self.events)):
            pass


class LiveRuns:
    """The runs of this process, and who wants to hear of new ones of a session."""

    def __init__(self) -> None:
        self._streams: dict[UUID, RunStream] = {}
        self._listeners: dict[UUID, set[Listener]] = {}

    def get(self, run_id: UUID) -> RunStream | None:
        return self._streams.get(run_id)

    def add(self, stream: RunStream) -> None:
        self._streams[stream.run_id] = stream
        if stream.session_id is not None:
            for listener in list(self._listeners.get(stream.session_id, ())):
                listener(stream)

    def remove(self, stream: RunStream) -> None:
        self._streams.pop(stream.run_id, None)

    def of_session(self, session_id: UUID) -> list[RunStream]:
        return [stream for stream in self._streams.values() if stream.session_id == session_id]

    def listen(self, session_id: UUID, listener: Listener) -> None:
        self._listeners.setdefault(session_id, set()).add(listener)

    def unlisten(self, session_id: UUID, listener: Listener) -> None:
        listeners = self._listeners.get(session_id, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(session_id, None)

    def __len__(self) -> int:
        return len(self._streams)


live = LiveRuns()
