"""Who has a socket here, and whether they still may: each credential, and each place in a session, is looked at once,
however many sockets it has.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from django.conf import settings

from core.aio import detached, in_db_thread
from core.errors import ApplicationError, RateLimited
from sessions_app.selectors.places import Place, places_lost
from tenants.authentication import ended
from tenants.permissions import is_person
from tenants.principal import Principal

logger = logging.getLogger(__name__)
End = Callable[[ApplicationError], None]
Held = Principal | Place


class SocketWatch:
    """Looks every SOCKET_RECHECK_SECONDS while there are sockets."""

    def __init__(self) -> None:
        self._ends: dict[Held, set[End]] = {}
        self._work: asyncio.Task[None] | None = None

    @contextmanager
    def watched(self, held: Held, end: End) -> Iterator[None]:
        """`end` is called, at every look, once the principal's credential is revoked, lowered or suspended, or a place
        is no longer what it was.
        """
        self._ends.setdefault(held, set()).add(end)
        if self._work is None:
            self._work = detached(self._look_again_and_again(), name="socket-watch")
        try:
            yield
        finally:
            self._forget(held, end)

    def refuse_more(self, actor: Principal) -> None:
        """Raises RateLimited when a person has SOCKETS_PER_PERSON here. A key has no limit: it may speak for many."""
        most = settings.SOCKETS_PER_PERSON
        if is_person(actor) and len(self._ends.get(actor, ())) >= most:
            raise RateLimited(
                f"You have {most} sockets open: close one. SOCKETS_PER_PERSON on the server raises this.",
                code="too_many_sockets",
            )

    def _forget(self, held: Held, end: End) -> None:
        others = self._ends[held]
        others.discard(end)
        if not others:
            del self._ends[held]
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
        for held, error in (await self._ended()).items():
            for end in list(self._ends.get(held, ())):
                end(error)

    async def _ended(self) -> dict[Held, ApplicationError]:
        """None while they cannot be looked at: their sockets stay."""
        try:
            return await in_db_thread(_lost, list(self._ends))
        except Exception:
            logger.exception("The credentials of the sockets could not be checked")
            return {}


def _lost(held: Collection[Held]) -> dict[Held, ApplicationError]:
    principals = [one for one in held if isinstance(one, Principal)]
    places = [one for one in held if isinstance(one, Place)]
    return dict([*ended(principals).items(), *places_lost(places).items()])
