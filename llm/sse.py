"""An incremental parser of server-sent events (WHATWG HTML, 9.2.6) over bytes."""

import re

from llm.exceptions import BadAnswer

Event = tuple[bytes, bytes]  # name (empty for an unnamed event), data

MAX_EVENT = 32 * 1024 * 1024
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class SSEParser:
    """Feed it bytes cut anywhere; it hands out whole events. Comments, `id` and `retry` are passed over."""

    __slots__ = ("_data", "_fresh", "_name", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0  # bytes of the event at hand, counted with what is repeated when a line is put together
        self._fresh = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises BadAnswer when one event exceeds MAX_EVENT bytes."""
        events: list[Event] = []
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._grow(len(line))
            elif not line:
                if self._data:
                    events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
                    self._data = []
                self._name, self._size = b"", 0
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
        return events

    def close(self) -> list[Event]:
        """What the last lines hold when the stream ended without a blank line, as some servers do."""
        return self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole; the rest waits in the tail."""
        if self._fresh or self._tail or b"\r" in chunk:
            return self._lines_of_any_kind(chunk)
        lines = chunk.split(b"\n")
        self._tail += lines.pop()
        return lines

    def _lines_of_any_kind(self, chunk: bytes) -> list[bytes]:
        if b"\n" not in chunk and b"\r" not in chunk and not self._tail.endswith(b"\r"):
            self._tail += chunk
            self._grow(len(chunk))
            return []
        whole = bytes(self._tail) + chunk
        if self._fresh:
            self._fresh = False
            whole = whole.removeprefix(_BOM)
        # A carriage return at the very end may be half of a line end: it waits for what follows.
        held = b"\r" if whole.endswith(b"\r") else b""
        lines = _LINE_END.split(whole.removesuffix(b"\r"))
        self._tail = bytearray(lines.pop() + held)
        return lines

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT:
            raise BadAnswer("The provider sent a larger piece of an answer than is accepted.", retryable=False)
