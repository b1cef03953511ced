"""The places of sockets in sessions, and whether they still are theirs."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from core.errors import ApplicationError, NotFound, NotPermitted
from sessions_app.models import ChatSession
from sessions_app.selectors.participants import NO_SESSION, participation
from tenants.permissions import is_confined
from tenants.principal import Principal


@dataclass(frozen=True, slots=True)
class Place:
    """A session and a person with their role in it; the last three are empty for who has all sessions of the tenant."""

    session_id: UUID
    kind: str = ""
    person_id: UUID | None = None
    role: str | None = None


def place_of(*, actor: Principal, session: ChatSession) -> Place:
    """As it is now. Raises NotFound for somebody who takes no part any more."""
    if not is_confined(actor):
        return Place(session.id)
    role = participation(actor=actor, session=session)
    if role is None:
        raise NotFound(NO_SESSION)
    return Place(session.id, actor.kind, actor.id, role)


def places_lost(places: Collection[Place]) -> dict[Place, ApplicationError]:
    """Those that are as they were no more, each with a NotPermitted; of any tenants, in one statement."""
    if not places:
        return {}
    asked: list[Any] = [
        [place.session_id for place in places],
        [place.kind for place in places],
        [place.person_id for place in places],
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM live_participants(%s::uuid[], %s::text[], %s::uuid[])", asked)
        live = {Place(session, kind, person): role for session, kind, person, role in cursor.fetchall()}
    found = ((place, _fault(place, live)) for place in places)
    return {place: fault for place, fault in found if fault is not None}


def _fault(place: Place, live: dict[Place, str | None]) -> ApplicationError | None:
    where = Place(place.session_id, place.kind, place.person_id)
    if where not in live:
        return NotPermitted("The session was deleted.", code="session_deleted")
    if live[where] == place.role:
        return None
    if live[where] is None:
        return NotPermitted("You take no part in this session any more.", code="participation_ended")
    return NotPermitted("Your role in this session changed.", code="participation_changed")
