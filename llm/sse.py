"""An incremental parser of server-sent events (WHATWG HTML, 9.2.6) over bytes."""

import re

from llm.exceptions import BadAnswer

Event = tuple[bytes, bytes]  # name (empty for an unnamed event), data

MAX_EVENT = 32 * 1024 * 1024
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class SSEParser:
    """Feed it bytes cut anywhere; it hands out whole events. Comments, `id` and `retry` are passed over."""

    __slots__ = ("_data", "_first", "_name", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises BadAnswer when one event exceeds MAX_EVENT bytes."""
        if b"\n" not in chunk and b"\r" not in chunk and not self._tail.endswith(b"\r"):
            self._tail += chunk
            self._check_size(len(self._tail))
            return []
        events: list[Event] = []
        for line in self._lines(chunk):
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """What the last lines hold when the stream ended without a blank line, as some servers do."""
        return self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        whole = bytes(self._tail) + chunk if self._tail else chunk
        if self._first and whole:
            self._first = False
            whole = whole.removeprefix(_BOM)
        # A carriage return at the very end may be half of a line end: it waits for what follows.
        held = b"\r" if whole.endswith(b"\r") else b""
        whole = whole.removesuffix(b"\r")
        lines = _LINE_END.split(whole) if b"\r" in whole else whole.split(b"\n")
        self._tail = bytearray(lines.pop() + held)
        self._check_size(len(self._tail))
        return lines

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._data, self._name, self._size = [], b"", 0
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._check_size(self._size + len(value))
            self._size += len(value)
            self._data.append(value)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT:
            raise BadAnswer("The provider sent a larger piece of an answer than is accepted.", retryable=False)
