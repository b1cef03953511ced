"""A run under way in this process: what it says, on its way into the event log."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

from runs.events import DELTAS, PAUSED, Event, make_event, now_ms

if TYPE_CHECKING:
    from datetime import date

RECENT = 64  # stored events that a follower who comes now need not read from the table
MAX_PENDING = 65_536  # characters that a run may have said and not stored; then it waits


class RunKey(NamedTuple):
    """What finds a run's events."""

    tenant_id: UUID
    run_id: UUID
    day: "date"


class Log(Protocol):
    """Where the events of streams go: `runs.writer.Writer`, or the memory of a replay."""

    size: int

    @property
    def is_full(self) -> bool: ...

    def wake(self, stream: "RunStream") -> None:
        """The stream has a new event to take."""

    async def room(self, stream: "RunStream") -> None: ...


class RunLost(Exception):
    """Another process has the run now, or it was deleted: nothing of this one is stored any more."""


class _Draft:
    """An event that is not numbered yet; pieces of the same message join it until it is taken."""

    __slots__ = ("at", "belongs_to", "fields", "pieces", "type")

    def __init__(self, type: str, fields: dict[str, Any]) -> None:
        self.at = now_ms()
        self.type = type
        self.fields = fields
        name = DELTAS.get(type)
        self.belongs_to = fields[name] if name else None
        self.pieces = [fields["delta"]] if name else []

    def event(self, seq: int) -> Event:
        if len(self.pieces) > 1:
            self.fields["delta"] = "".join(self.pieces)
        return make_event(seq, self.type, self.fields, self.at)


class RunStream:
    """`stored` is the seq of the last event in the log. Followers never see an event that is not stored, but of a run
    that is shown `early`, since it ends with its caller: those in this process see it before.

    `quiet`: nobody waits for its single words. These and those of an early run may be stored later than others.
    """

    def __init__(
        self,
        key: RunKey,
        *,
        fence: int,
        stored: int,
        writer: Log,
        on_lost: Callable[[], None],
        quiet: bool = False,
        early: bool = False,
    ) -> None:
        self.key = key
        self.run = str(key.run_id)
        self.fence = fence
        self.stored = stored
        self.lost = False
        self.size = 0  # characters that are not stored
        self.quiet = quiet
        self.early = early
        self.waited_for = not self.unhurried  # its next event is the first that says something: followers wait for it
        self.recent: deque[Event] = deque(maxlen=RECENT)
        self._drafts: list[_Draft] = []
        self._shown: list[Event] = []
        self._taken: list[Event] = []
        self._taken_size = 0
        self._pause: tuple[dict[str, Any], dict[str, Any], list[str]] | None = None
        self._writer = writer
        self._on_lost = on_lost

    @property
    def unhurried(self) -> bool:
        """Nobody waits for its events to be stored."""
        return self.quiet or self.early

    def publish(self, type: str, **fields: Any) -> None:
        """Hand an event to the writer. Await `room` between many of them."""
        self.go_on()
        name = DELTAS.get(type)
        self._grow(len(fields["delta"]) if name else 200 + len(str(fields.get("content", ""))))
        if name and self._drafts:
            last = self._drafts[-1]
            if last.type == type and last.belongs_to == fields[name]:
                last.pieces.append(fields["delta"])
                return
        self._drafts.append(_Draft(type, fields))
        self._writer.wake(self)

    def pause(self, interrupted: dict[str, Any], started: dict[str, Any], steps: Sequence[str] = ()) -> None:
        """The run waits for persons. A RUN_FINISHED with the fields `interrupted` says so, and before anything that it
        tells later comes a RUN_STARTED with the fields `started`. No step is open between them: `steps` end before and
        begin again, marked as `PAUSED`.
        """
        paused = (interrupted, started, list(steps))
        if self._pause != paused:
            for name in reversed(paused[2]):
                self.publish("STEP_FINISHED", stepName=name, metadata=PAUSED)
            self.publish("RUN_FINISHED", **interrupted)
            self._pause = paused

    def go_on(self) -> None:
        if self._pause is not None:
            (_, started, steps), self._pause = self._pause, None
            self.publish("RUN_STARTED", **started)
            for name in steps:
                self.publish("STEP_STARTED", stepName=name, metadata=PAUSED)

    async def room(self) -> None:
        """Returns once the log has room for more of this run: who reads from a provider waits with it.

        Raises RunLost.
        """
        if self.size >= MAX_PENDING or self._writer.is_full:
            await self._writer.room(self)
        if self.lost:
            raise RunLost

    def show(self) -> list[Event]:
        """What was published since the last call of this or of `take`, numbered, before it is stored."""
        first = self.stored + len(self._taken) + len(self._shown) + 1
        events = [draft.event(first + place) for place, draft in enumerate(self._drafts)]
        self._drafts = []
        self._shown += events
        return events

    def take(self) -> list[Event]:
        """What is not stored yet, numbered; taken again until `landed` or `lose` is called."""
        self.show()
        self._taken += self._shown
        self._shown = []
        self._taken_size = self.size
        return self._taken

    def rest(self) -> list[Event]:
        """What is not stored yet, numbered, for the caller to store: the writer finds nothing more here."""
        events = self.take()
        self._taken = []
        return events

    @property
    def is_taken(self) -> bool:
        return bool(self._taken)

    def landed(self, last: int) -> list[Event]:
        """What was taken is stored now, up to the seq `last`."""
        count = last - self.stored
        events, self._taken = self._taken[:count], self._taken[count:]
        self.stored = last
        self.recent += events
        if self.waited_for:
            self.waited_for = not any(event.type in DELTAS for event in events)
        if not self._taken:
            self._shrink_to(self.size - self._taken_size)
        return events

    def lose(self) -> None:
        if not self.lost:
            self.discard()
            self._on_lost()

    def discard(self) -> None:
        """Nothing more of this run comes from here."""
        self.lost = True
        self._drafts, self._shown, self._taken = [], [], []
        self._shrink_to(0)

    def _grow(self, characters: int) -> None:
        self.size += characters
        self._writer.size += characters

    def _shrink_to(self, characters: int) -> None:
        self._writer.size -= self.size - characters
        self.size = characters
