"""Conversations that the calls of one session, or of a run without one, share: a server may keep something in its own.

Two of our sessions never share one, nor two secrets; nor two persons, where the toolset acts for persons.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from core.aio import detached
from toolsets.kinds.mcp.conversation import Conversation, Place

IDLE_SECONDS = 120.0
MOST = 1000  # in one process


class Key(NamedTuple):
    """`scope` is our session, or the run that has none."""

    tenant_id: UUID
    toolset: str
    scope: UUID
    person: str
    place: Place  # with the credentials


@dataclass(slots=True)
class _Kept:
    conversation: Conversation
    users: int = 0
    end: asyncio.TimerHandle | None = None


_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, OrderedDict[Key, _Kept]] = WeakKeyDictionary()
_ending: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def conversation(place: Place, key: Key | None) -> AsyncIterator[Conversation]:
    """Without a key, one for this call alone."""
    if key is None:
        alone = Conversation(place)
        try:
            yield alone
        finally:
            _end(alone)
        return
    held = _taken(key)
    try:
        yield held.conversation
    finally:
        held.users -= 1
        if not held.users:
            held.end = asyncio.get_running_loop().call_later(IDLE_SECONDS, _forget, key, held)


def _taken(key: Key) -> _Kept:
    ours = _kept.setdefault(asyncio.get_running_loop(), OrderedDict())
    held = ours.get(key)
    if held is None:
        held = ours[key] = _Kept(Conversation(key.place))
    ours.move_to_end(key)
    held.users += 1
    if held.end:
        held.end.cancel()
        held.end = None
    if len(ours) > MOST:
        _forget_oldest(ours)
    return held


def _forget_oldest(ours: OrderedDict[Key, _Kept]) -> None:
    """One that is in use is kept by its users, and ends when nobody asks for it any more."""
    oldest = next((key for key, held in ours.items() if not held.users), None)
    if oldest is not None:
        _forget(oldest, ours[oldest])


def _forget(key: Key, held: _Kept) -> None:
    ours = _kept[asyncio.get_running_loop()]
    if ours.get(key) is held:
        del ours[key]
    if held.end:
        held.end.cancel()
    _end(held.conversation)


def _end(ended: Conversation) -> None:
    task = detached(ended.close(), name="mcp-close")
    _ending.add(task)
    task.add_done_callback(_ending.discard)
