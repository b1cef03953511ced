"""Server-sent events, as HTML's standard has them (section 9.2.6)."""

import codecs
import re
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

_END = re.compile("\r\n|\n|\r")


class Event(NamedTuple):
    """`data` may be empty: such an event tells an id or a wait. `retry` is in milliseconds."""

    type: str
    data: str
    id: str | None
    retry: int | None


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """An event that the end of the stream cuts is none."""
    lines, fields = _Lines(), _Fields()
    async for piece in pieces:
        for line in lines.ended(piece):
            event = fields.take(line)
            if event is not None:
                yield event


class _Lines:
    """Looks at each byte once, however long a line is."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun: list[str] = []
        self._after_return = False
        self._first = True

    def ended(self, piece: bytes) -> Iterator[str]:
        text = self._decode(piece)
        if self._first and text:
            text, self._first = text.removeprefix("\ufeff"), False
        if self._after_return and text:
            text, self._after_return = text.removeprefix("\n"), False
        if not text:
            return
        self._after_return = text.endswith("\r")
        *lines, last = _END.split(text)
        for line in lines:
            yield "".join([*self._begun, line])
            self._begun.clear()
        self._begun.append(last)


class _Fields:
    """Of the event that is being read."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._type, self._data = "message", list[str]()
        self._id: str | None = None
        self._retry: int | None = None
        self._any = False

    def take(self, line: str) -> Event | None:
        """The event that the line ends."""
        if not line:
            event = Event(self._type, "\n".join(self._data), self._id, self._retry) if self._any else None
            self._forget()
            return event
        name, _, value = line.partition(":")
        self._set(name, value.removeprefix(" "))
        return None

    def _set(self, name: str, value: str) -> None:
        self._any = self._any or name in ("data", "id", "retry")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value or "message"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self._retry = int(value[:9])
