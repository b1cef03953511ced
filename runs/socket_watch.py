"""Who has a socket here, and whether they still may: each credential is looked at once, however many sockets it has."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

from core.aio import detached, in_db_thread
from core.errors import ApplicationError
from tenants.authentication import ended
from tenants.principal import Principal

logger = logging.getLogger(__name__)
End = Callable[[ApplicationError], None]


class SocketWatch:
    """Looks every SOCKET_RECHECK_SECONDS while there are sockets."""

    def __init__(self) -> None:
        self._ends: dict[Principal, set[End]] = {}
        self._work: asyncio.Task[None] | None = None

    @contextmanager
    def watched(self, principal: Principal, end: End) -> Iterator[None]:
        """`end` is called, at every look, once the principal's credential is revoked, lowered or suspended."""
        self._ends.setdefault(principal, set()).add(end)
        if self._work is None:
            self._work = detached(self._look_again_and_again(), name="socket-watch")
        try:
            yield
        finally:
            self._forget(principal, end)

    def _forget(self, principal: Principal, end: End) -> None:
        others = self._ends[principal]
        others.discard(end)
        if not others:
            del self._ends[principal]
        if not self._ends and self._work is not None:
            self._work.cancel()
            self._work = None

    async def _look_again_and_again(self) -> None:
        """What a look takes is no part of the wait: from one look at a credential to the next it is the interval."""
        loop = asyncio.get_running_loop()
        following = loop.time()
        while True:
            following = max(following + settings.SOCKET_RECHECK_SECONDS, loop.time())
            await asyncio.sleep(following - loop.time())
            await self._look()

    async def _look(self) -> None:
        for principal, error in (await self._ended()).items():
            for end in list(self._ends.get(principal, ())):
                end(error)

    async def _ended(self) -> dict[Principal, ApplicationError]:
        """None while they cannot be looked at: their sockets stay."""
        try:
            return await in_db_thread(ended, list(self._ends))
        except Exception:
            logger.exception("The credentials of the sockets could not be checked")
            return {}
