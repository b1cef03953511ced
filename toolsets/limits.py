"""How often the tools of a toolset are called, in this process."""

import time
from collections import OrderedDict, deque
from uuid import UUID

MINUTE = 60.0
TOOLSETS = 4096  # whose calls are remembered

_calls: OrderedDict[tuple[UUID, str], deque[float]] = OrderedDict()


def has_room(tenant_id: UUID, toolset: str, most: int) -> bool:
    """Counts one call more, unless `most` were made in the last minute."""
    now = time.monotonic()
    calls = _calls.setdefault((tenant_id, toolset), deque())
    _calls.move_to_end((tenant_id, toolset))
    while len(_calls) > TOOLSETS:
        _calls.popitem(last=False)
    while calls and calls[0] <= now - MINUTE:
        calls.popleft()
    if len(calls) >= most:
        return False
    calls.append(now)
    return True


def forget() -> None:
    _calls.clear()
