"""What was read a moment ago, kept in the memory of this process."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

SECONDS = 4.0  # another process sees a change within 5 s
SIZE = 2048

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by keys that name their tenant; each is read again after SECONDS, or once it was forgotten."""

    def __init__(self) -> None:
        self._held: dict[K, tuple[float, V]] = {}

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._held))

    def get(self, key: K, read: Callable[[], V]) -> V:
        """What `read` raises is not kept."""
        now = time.monotonic()
        held = self._held.get(key)
        if held is not None and held[0] > now:
            return held[1]
        value = read()
        if len(self._held) >= SIZE:
            self._held.clear()
        self._held[key] = (now + SECONDS, value)
        return value

    def forget(self, *keys: K) -> None:
        """After a change: this process sees it at once."""
        for key in keys:
            self._held.pop(key, None)

    def clear(self) -> None:
        self._held.clear()
