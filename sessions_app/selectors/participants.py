"""Who takes part in sessions, what they may do there, and what others do not see.

Users below the tenant's role operator, and guests, have only the sessions that they take part in. For all others, who
are unconfined, nothing here asks the database.
"""

from typing import Any, TypeVar

from django.db.models import CharField, OuterRef, Q, QuerySet, Subquery, Value

from core.errors import NotFound, NotPermitted
from core.ids import NIL, parse_uuid
from sessions_app.models import ChatSession, Invitation, Participant
from tenants.models import Role
from tenants.permissions import RANK, authorize, is_confined
from tenants.principal import Principal

NO_SESSION = "No session with this id."
Rows = TypeVar("Rows", bound=QuerySet[Any])
# permission → the lowest role in the session that has it; reading needs none
_LOWEST = {
    "chat.run": Participant.Role.MEMBER,
    "run.cancel": Participant.Role.MEMBER,
    "tool.approve": Participant.Role.MEMBER,
    "session.edit": Participant.Role.OWNER,
    "session.share": Participant.Role.OWNER,
}
ROLE_RANK = {role: rank for rank, role in enumerate(reversed(Participant.Role.values))}


def confine(rows: Rows, *, actor: Principal, session: str = "session_id", own: Q | None = None) -> Rows:
    """Of rows that have their session's id in the column `session`, those that the actor may see: in one query.

    `own` is what the actor may see besides, such as runs of theirs without a session.
    """
    if not is_confined(actor):
        return rows
    joined = Q(**{f"{session}__in": taken_part_in(actor)})
    return rows.filter(joined | own if own is not None else joined)


def taken_part_in(actor: Principal) -> QuerySet[Any]:
    """The ids of the sessions that the actor takes part in: a key in none."""
    return _participations(actor).values("session_id")


def my_role(actor: Principal) -> Any:
    """The actor's role in each session of a query, as `session_role` says it."""
    most = _most(actor)
    if is_confined(actor) and most != Participant.Role.VIEWER:
        return Subquery(_participations(actor).filter(session_id=OuterRef("id")).values("role"))
    return Value(most, output_field=CharField())


def session_role(*, actor: Principal, session: ChatSession) -> str:
    """The actor's role in a session that they may see: no more than the tenant's role lets them do.

    Raises NotFound for somebody who takes no part in it any more.
    """
    if not is_confined(actor):
        return _most(actor)
    role = participation(actor=actor, session=session)
    if role is None:
        raise NotFound(NO_SESSION)
    return min(role, _most(actor), key=ROLE_RANK.__getitem__)


def participation(*, actor: Principal, session: ChatSession) -> str | None:
    """The role that the actor was given in the session; None for who takes no part in it."""
    return _participations(actor).filter(session_id=session.id).values_list("role", flat=True).first()


def authorize_in(*, actor: Principal, session: ChatSession | None, permission: str) -> None:
    """As `authorize`, in a session; without one the tenant's role alone counts.

    Raises NotPermitted, which names the role that is missing.
    """
    authorize(actor, permission)
    lowest = _LOWEST.get(permission)
    if session is None or lowest is None or not is_confined(actor):
        return
    role = session_role(actor=actor, session=session)
    if ROLE_RANK[role] < ROLE_RANK[lowest]:
        message = f"In this session this needs the role {lowest} or higher; you are {role}."
        raise NotPermitted(message, code="role_too_low")


def participant_list(*, actor: Principal, session: ChatSession) -> QuerySet[Participant]:
    """In the order in which they came; the caller has the session by `session_get`."""
    authorize(actor, "session.view")
    return Participant.objects.filter(tenant_id=actor.tenant_id, session_id=session.id)


def participant_get(*, actor: Principal, session: ChatSession, ref: str) -> Participant:
    found = participant_list(actor=actor, session=session).filter(id=parse_uuid(ref) or NIL).first()
    if found is None:
        raise NotFound("No participant with this id.", code="participant_not_found")
    return found


def invitation_list(*, actor: Principal, session: ChatSession) -> QuerySet[Invitation]:
    """Newest first, for those who may invite; the caller has the session by `session_get`."""
    authorize_in(actor=actor, session=session, permission="session.share")
    return Invitation.objects.filter(tenant_id=actor.tenant_id, session_id=session.id)


def _participations(actor: Principal) -> QuerySet[Participant]:
    return Participant.objects.filter(tenant_id=actor.tenant_id, person_kind=actor.kind, person_id=actor.id or NIL)


def _most(actor: Principal) -> str:
    """What the tenant's role lets the actor be in a session."""
    role = Participant.Role.OWNER if RANK[actor.role] >= RANK[Role.MEMBER] else Participant.Role.VIEWER
    return role.value
