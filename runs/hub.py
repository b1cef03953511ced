"""Who follows which run in this process. What is stored is put into the mailboxes of its followers directly."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from runs.events import Event
from runs.stream import RunKey

MAILBOX = 256  # events that a follower may leave unread; with more it reads them from the table instead


class Mailbox:
    """What came for one follower. `behind` says that the table has more than is here."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.behind = False
        self.seen = 0  # the seq that its follower has
        self.given = 0  # the seq of the last event that was put here
        self.watched = False  # the process that has the run was asked to notify others
        self.moved = False  # this process stops: follow the run from another
        self._events: list[Event] = []
        self._changed = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None  # one for many waits: most end long before it

    def put(self, events: Sequence[Event]) -> None:
        """One event or more, in order."""
        if len(self._events) + len(events) > MAILBOX:
            self._events = []
            self.behind = True
        else:
            self._events += events
        self.given = events[-1].seq
        self._change()

    def look(self) -> None:
        """Something happened to the run that only the table can tell."""
        self.behind = True
        self._change()

    def move(self) -> None:
        self.moved = True
        self._change()

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    async def changed(self, seconds: float | None) -> bool:
        """False when nothing came for so long."""
        if not self._changed:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            if seconds is not None:
                self._deadline = loop.time() + seconds
                self._timer = self._timer or loop.call_at(self._deadline, self._expire)
            await self._waiter
        changed, self._changed = self._changed, False
        return changed

    def _change(self) -> None:
        self._changed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._expire)
        else:
            self._timer = None
            self._wake()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Hub:
    def __init__(self) -> None:
        self._mailboxes: dict[UUID, set[Mailbox]] = {}
        self._moved = False

    @contextmanager
    def mailbox(self, key: RunKey) -> Iterator[Mailbox]:
        mailbox = Mailbox(key)
        mailbox.moved = self._moved
        self._mailboxes.setdefault(key.run_id, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            mailbox.close()
            others = self._mailboxes[key.run_id]
            others.discard(mailbox)
            if not others:
                del self._mailboxes[key.run_id]

    def deliver(self, run_id: UUID, events: Sequence[Event]) -> None:
        for mailbox in self._mailboxes.get(run_id, ()):
            mailbox.put(events)

    def look(self, run_id: UUID) -> None:
        for mailbox in self._mailboxes.get(run_id, ()):
            mailbox.look()

    def look_all(self) -> None:
        for run_id in self._mailboxes:
            self.look(run_id)

    def move_all(self) -> None:
        """Send all followers, and those who come now, to another process."""
        self._moved = True
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.move()

    def keys(self) -> dict[UUID, RunKey]:
        """The runs that are followed here."""
        return {run_id: next(iter(mailboxes)).key for run_id, mailboxes in self._mailboxes.items()}

    def key(self, run_id: UUID) -> RunKey:
        """Of a run that is followed here."""
        return next(iter(self._mailboxes[run_id])).key

    def behind(self, run_id: UUID, last_seq: int) -> bool:
        """Has a follower here seen less than is stored?"""
        return any(mailbox.seen < last_seq for mailbox in self._mailboxes.get(run_id, ()))

    def reached(self, run_id: UUID) -> int | None:
        """The seq up to which the followers here have a run's events, or will find them; None without followers."""
        mailboxes = self._mailboxes.get(run_id, ())
        return max((max(mailbox.seen, mailbox.given) for mailbox in mailboxes), default=None)

    def is_watched(self, run_id: UUID) -> bool:
        return any(mailbox.watched for mailbox in self._mailboxes.get(run_id, ()))

    def watched(self, run_id: UUID) -> None:
        for mailbox in self._mailboxes.get(run_id, ()):
            mailbox.watched = True

    def followers(self, run_id: UUID) -> int:
        return len(self._mailboxes.get(run_id, ()))
