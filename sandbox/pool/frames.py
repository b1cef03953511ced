"""The lines by which a slot speaks, among whatever else its code prints to the same descriptor."""

from collections.abc import Iterator

MAGIC = b"\0agentsite "


class Frames:
    """Cuts a stream into (kind, JSON) for the slot's lines, which its code can forge, and ("", bytes) for others."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0  # bytes of a begun line that hold no line end

    @property
    def waiting(self) -> int:
        """Bytes of a line that has not ended."""
        return len(self._rest)

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._rest += data
        while self._rest:
            begin = self._rest.find(MAGIC)
            if begin < 0:
                begin = len(self._rest) - _begun(self._rest)
            if begin:
                yield "", bytes(self._rest[:begin])
                del self._rest[:begin]
                continue
            end = self._rest.find(b"\n", max(self._seen, len(MAGIC)))
            if end < 0:
                self._seen = len(self._rest)
                return
            line = bytes(self._rest[len(MAGIC) : end])
            del self._rest[: end + 1]
            self._seen = 0
            yield line[:1].decode("latin-1"), line[1:]


def _begun(data: bytearray) -> int:
    """How many bytes at the end could be the begin of MAGIC."""
    return next((size for size in range(min(len(MAGIC), len(data)), 0, -1) if data.endswith(MAGIC[:size])), 0)
