"""Who has a socket of a session open, and who is typing, as each of its sockets is told; across processes.

A process has a row for each person in each session, and one for itself by which it is known to live: that one alone is
kept fresh. Nobody waits for what happens here: while the database does not answer, the last list stays.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import UUID

import orjson
import psycopg

from core.aio import detached
from runs.events import custom
from runs.presence_store import Change, PresenceStore, Row, Seat
from tenants.principal import Principal

logger = logging.getLogger(__name__)
DEBOUNCE = 0.1  # seconds for which changes are gathered
RETRY_SECONDS = 1.0
BEAT_SECONDS = 10.0  # between two signs of life; a process without one for ALIVE_SECONDS has no sockets any more
ALIVE_SECONDS = 30.0
TYPING_SECONDS = 5.0
MOST_SHOWN = 200  # persons of one session
_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError)
Show = Callable[[str], None]


class Present(NamedTuple):
    """A person of a session as a process has them; `typing_until` by the loop's clock."""

    server: UUID
    seat: Seat
    typing_until: float
    alive: bool


class Room:
    """The sockets that a session has here, each with its person; what they were shown, and `new` ones were not yet."""

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.sockets: dict[Show, Seat] = {}
        self.new: set[Show] = set()
        self.rows: list[Present] = []
        self.typed: dict[tuple[str, UUID | None], float] = {}  # until when, which the rows may not tell yet
        self.frame = ""
        self.timer: asyncio.TimerHandle | None = None

    def seats(self, person: tuple[str, UUID | None]) -> list[Seat]:
        return [seat for seat in self.sockets.values() if seat.person == person]

    def types(self, person: tuple[str, UUID | None]) -> float:
        """Until when, by what is known here."""
        told = (row.typing_until for row in self.rows if row.seat.person == person)
        return max([self.typed.get(person, 0.0), *told])

    def show(self, frame: str) -> None:
        told = list(self.sockets) if frame != self.frame else [show for show in self.sockets if show in self.new]
        self.frame, self.new = frame, set()
        for show in told:
            show(frame)


class Presence:
    """`tell` notifies other processes that a session has changed."""

    def __init__(self, server: UUID, store: PresenceStore, tell: Callable[[UUID], None]) -> None:
        self._server = server
        self._store = store
        self._tell = tell
        self._rooms: dict[UUID, Room] = {}
        self._changes: dict[tuple[UUID, str, UUID, bool], Change] = {}
        self._looks: set[UUID] = set()
        self._work: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._is_known = False  # this process gave a sign of life
        self._trusting_until = 0.0  # after a gap others may only be late
        self._left = False

    @contextmanager
    def seated(self, topic: UUID, actor: Principal, role: str, show: Show) -> Iterator[None]:
        """A socket of the session is open: `show` is given the frame to send, now and at every change."""
        if actor.id is None or self._left:
            yield
            return
        seat = Seat(actor.kind, actor.id, actor.label, role)
        room = self._rooms.setdefault(topic, Room(actor.tenant_id))
        if not room.seats(seat.person):
            self._change(topic, room, seat)
        room.sockets[show] = seat
        room.new.add(show)
        self.look(topic)
        self._live()
        try:
            yield
        finally:
            self._leave(topic, room, show, seat)

    def _leave(self, topic: UUID, room: Room, show: Show, seat: Seat) -> None:
        del room.sockets[show]
        room.new.discard(show)
        if not room.seats(seat.person) and not self._left:
            self._change(topic, room, seat, gone=True)
        if not room.sockets:
            del self._rooms[topic]
            if room.timer is not None:
                room.timer.cancel()

    def typing(self, topic: UUID, actor: Principal) -> None:
        """For the next seconds; said again at most every half of them."""
        room, person = self._rooms.get(topic), (actor.kind, actor.id)
        if room is not None and room.types(person) < self._now + TYPING_SECONDS / 2:
            for seat in room.seats(person)[:1]:
                room.typed[person] = self._now + TYPING_SECONDS
                self._change(topic, room, seat, typing=TYPING_SECONDS)

    def spoke(self, topic: UUID, actor: Principal) -> None:
        """The person's run has begun: they do not type any more, wherever they did."""
        room = self._rooms.get(topic)
        if room is None or actor.id is None or room.types((actor.kind, actor.id)) <= self._now:
            return
        room.typed.pop((actor.kind, actor.id), None)
        for seat in room.seats((actor.kind, actor.id))[:1]:
            self._change(topic, room, seat)
        self._change(topic, room, Seat(actor.kind, actor.id, actor.label, ""), elsewhere=True)

    def look(self, topic: UUID) -> None:
        """Somebody came, went or types, as another process says."""
        if topic in self._rooms:
            self._looks.add(topic)
            self._ensure_work()

    def look_all(self) -> None:
        for topic in self._rooms:
            self.look(topic)

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _change(
        self, topic: UUID, room: Room, seat: Seat, *, gone: bool = False, elsewhere: bool = False, typing: float = 0.0
    ) -> None:
        self._changes[topic, *seat.person, elsewhere] = Change(room.tenant_id, topic, seat, gone, elsewhere, typing)
        self._ensure_work()

    def _ensure_work(self) -> None:
        if (self._work is None or self._work.done()) and not self._left:
            self._work = detached(self._work_off(), name="presence")

    async def _work_off(self) -> None:
        while self._changes or self._looks:
            await asyncio.sleep(DEBOUNCE)
            changes, self._changes = self._changes, {}
            looks, self._looks = self._looks, set()
            try:
                await self._write(list(changes.values()))
                await self._read(looks | {topic for topic, *_ in changes})
            except _FAULTS:
                logger.warning("Who is present cannot be told; the last lists stay")
                self._changes, self._looks = {**changes, **self._changes}, looks | self._looks
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception("Who is present could not be told")

    async def _write(self, changes: list[Change]) -> None:
        if changes:
            if not self._is_known:
                await self._give_sign()
            await self._store.change(self._server, changes)
            for topic in {change.topic for change in changes}:
                self._tell(topic)

    async def _read(self, topics: set[UUID]) -> None:
        """One statement for all sessions and sockets."""
        asked = {topic: self._rooms[topic].tenant_id for topic in topics if topic in self._rooms}
        if not asked:
            return
        found: dict[UUID, list[Present]] = {topic: [] for topic in asked}
        for row in await self._store.present(asked):
            found[row.topic].append(self._present(row))
        for topic, rows in found.items():
            if topic in self._rooms:
                self._rooms[topic].rows = rows
                self._show(topic)

    def _present(self, row: Row) -> Present:
        alive = row.alive or row.server == self._server or self._now < self._trusting_until
        return Present(row.server, row.seat, self._now + row.typing if row.typing > 0 else 0.0, alive)

    def _show(self, topic: UUID) -> None:
        room = self._rooms.get(topic)
        if room is None:
            return
        now = self._now  # once: between two looks at the clock somebody might stop typing, unseen by both
        room.show(_frame(room.rows, now))
        if room.timer is not None:
            room.timer.cancel()
        ends = [row.typing_until for row in room.rows if row.typing_until > now]
        room.timer = asyncio.get_running_loop().call_at(min(ends), self._show, topic) if ends else None

    def _live(self) -> None:
        if self._beat is None or self._beat.done():
            self._beat = detached(self._beat_again_and_again(), name="presence-beat")

    async def _give_sign(self) -> None:
        was_alive, alive = await self._store.beat(self._server, alive=ALIVE_SECONDS)
        if was_alive or not self._is_known:
            self._judge(alive)
        else:
            self._trusting_until = self._now + BEAT_SECONDS
            self._tell_anew()
        self._is_known = True

    async def _beat_again_and_again(self) -> None:
        while self._rooms:
            try:
                await self._give_sign()
            except _FAULTS:
                logger.warning("This process cannot tell that its sockets live")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(BEAT_SECONDS)
        self._is_known = False

    def _judge(self, alive: set[UUID]) -> None:
        """The sockets of processes that died are gone."""
        for topic, room in list(self._rooms.items()):
            judged = [row._replace(alive=row.server in alive or row.server == self._server) for row in room.rows]
            if judged != room.rows:
                room.rows = judged
                self.look(topic)

    def _tell_anew(self) -> None:
        """After a gap of its own: others may have forgotten the process."""
        for topic, room in self._rooms.items():
            for seat in set(room.sockets.values()):
                self._changes.setdefault((topic, *seat.person, False), Change(room.tenant_id, topic, seat))
        self.look_all()

    async def leave(self, seconds: float) -> None:
        """The process stops: its sockets are gone for all others."""
        self._left = True
        rooms, is_known = dict(self._rooms), self._is_known
        await self._stop()
        if not is_known:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._store.leave(self._server, {room.tenant_id for room in rooms.values()})
        except (TimeoutError, psycopg.Error):
            logger.warning("The sockets of this process are known for some seconds after it")
        for topic in rooms:
            self._tell(topic)

    async def _stop(self) -> None:
        for task in (self._work, self._beat):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def close(self) -> None:
        await self._stop()
        for room in self._rooms.values():
            if room.timer is not None:
                room.timer.cancel()
        await self._store.close()


def _frame(rows: list[Present], now: float) -> str:
    """AG-UI's CUSTOM event; each person once, those first who came first."""
    persons: dict[tuple[str, UUID], Seat] = {}
    for row in rows:
        if row.alive:
            persons.setdefault(row.seat.person, row.seat)
    typing = {row.seat.person for row in rows if row.typing_until > now}
    shown = [
        {"kind": seat.kind, "id": seat.id, "label": seat.label, "role": seat.role, "typing": person in typing}
        for person, seat in list(persons.items())[:MOST_SHOWN]
    ]
    return orjson.dumps({"type": "CUSTOM", **custom("presence", {"participants": shown})}).decode()
