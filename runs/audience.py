"""The sockets that one session has in this process: they hear of its runs together, by one read for all of them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from django.utils import timezone

from core.aio import detached, in_db_thread
from core.tenant import tenant_context
from runs.selectors import Found, runs_to_follow
from runs.stream import RunKey
from sessions_app.selectors.sessions import session_find
from tenants.principal import system_principal

GAP = timedelta(seconds=60)  # longer than announcements of other processes can be missing while the database works
Announce = Callable[[RunKey | None], None]


class Member(Protocol):
    """A socket. It knows itself whether whoever has opened it may see the runs."""

    def begun(self, key: RunKey) -> None:
        """A run has just begun."""

    def found(self, runs: Sequence[Found]) -> None:
        """The session has these: they are not finished, or began not long ago."""

    def missed(self, fault: Exception) -> None:
        """There may be runs that nobody can be told of."""


class Audience:
    """`ref` is the session's, which nobody need have made yet."""

    def __init__(self, tenant_id: UUID, ref: str) -> None:
        self.members: set[Member] = set()
        self._tenant_id, self._ref = tenant_id, ref
        self._again = False
        self._work: asyncio.Task[None] | None = None

    def announce(self, key: RunKey | None) -> None:
        if key is None:
            self._again = True
            if self._work is None or self._work.done():
                self._work = detached(self._look(), name="session-runs")
            return
        for member in list(self.members):
            member.begun(key)

    async def _look(self) -> None:
        """What is announced during a read is read by the next."""
        while self._again and self.members:
            self._again = False
            try:
                with tenant_context(self._tenant_id):
                    runs = await in_db_thread(self._runs)
            except Exception as fault:
                for member in list(self.members):
                    member.missed(fault)
                return
            for member in list(self.members):
                member.found(runs)

    def _runs(self) -> list[Found]:
        """Looks for the session each time: it may be new, or made again under the client's id."""
        everything = system_principal(self._tenant_id, "")
        session = session_find(actor=everything, ref=self._ref)
        if session is None:
            return []
        return runs_to_follow(actor=everything, session_id=session.id, since=timezone.now() - GAP)
