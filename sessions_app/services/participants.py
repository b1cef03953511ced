"""Writes to who takes part in a session. Each locks the session's row first, so that none acts on what is past."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from core import audit
from core.errors import Conflict, NotFound
from sessions_app.models import ChatSession, Invitation, Participant
from sessions_app.selectors.participants import ROLE_RANK, authorize_in, participant_get
from sessions_app.selectors.sessions import session_get
from tenants.models import Membership
from tenants.permissions import authorize
from tenants.principal import Principal

Role = Participant.Role


@transaction.atomic
def participant_add(*, actor: Principal, ref: str, user: str, role: str) -> Participant:
    """A member of the tenant, by their username. Raises NotFound for nobody, Conflict for who takes part already."""
    session = locked_to_share(actor=actor, ref=ref)
    members = Membership.objects.filter(tenant_id=actor.tenant_id, status=Membership.Status.ACTIVE)
    member = members.select_related("user").filter(user__username=user).first()
    if member is None:
        raise NotFound("No active member of this tenant has this name.", code="member_not_found", param="user")
    username = member.user.get_username()
    who = {"person_kind": "user", "person_id": member.user_id}
    if Participant.objects.filter(tenant_id=actor.tenant_id, session=session, **who).exists():
        raise Conflict(f"{username} takes part already.", code="already_participant", param="user")
    return participant_create(actor=actor, session=session, role=role, label=username, **who)


def participant_create(*, actor: Principal, session: ChatSession, **fields: Any) -> Participant:
    """In the transaction of a caller that has locked or made the session, and has looked whether the actor may."""
    participant = Participant.objects.create(tenant_id=session.tenant_id, session=session, **fields)
    audit.record(actor=actor, action="participant.add", target=participant, after=facts(participant))
    return participant


@transaction.atomic
def participant_update(*, actor: Principal, ref: str, participant: str, role: str) -> Participant:
    """Change the role. Raises Conflict where others would be left without an owner."""
    session = locked_to_share(actor=actor, ref=ref)
    found = participant_get(actor=actor, session=session, ref=participant)
    if found.role != role:
        participant_set_role(actor=actor, participant=found, role=role)
    return found


def participant_set_role(*, actor: Principal, participant: Participant, role: str) -> None:
    """In the transaction of a caller that has locked the session, and has looked whether the actor may."""
    _refuse_last_owner([participant])
    if ROLE_RANK[role] < ROLE_RANK[participant.role]:
        _close_links(actor, [participant])
    before = facts(participant)
    participant.role = role
    participant.save(update_fields=["role"])
    audit.record(actor=actor, action="participant.update", target=participant, before=before, after=facts(participant))


@transaction.atomic
def participant_remove(*, actor: Principal, ref: str, participant: str) -> None:
    """Take somebody out; everybody may go themselves. Raises Conflict where others would be left without an owner."""
    session = session_get(actor=actor, ref=ref, lock=True)
    found = participant_get(actor=actor, session=session, ref=participant)
    if not _is(actor, found):
        authorize_in(actor=actor, session=session, permission="session.share")
    participants_delete(actor=actor, participants=[found])


def participants_delete(*, actor: Principal, participants: list[Participant]) -> None:
    """Of one session, in the transaction of a caller that has locked it, and has looked whether the actor may."""
    _refuse_last_owner(participants)
    _close_links(actor, participants)
    for participant in participants:
        audit.record(actor=actor, action="participant.remove", target=participant, before=facts(participant))
        participant.delete()


def _close_links(actor: Principal, changed: list[Participant]) -> None:
    """Somebody else lowers or removes them: no link that they may have brings them back, made by whomever."""
    others = [each for each in changed if not _is(actor, each)]
    if others:
        links = Invitation.objects.filter(tenant_id=actor.tenant_id, session_id=others[0].session_id)
        invitations_close(actor=actor, invitations=links.filter(expires_at__gt=timezone.now()))


def _is(actor: Principal, participant: Participant) -> bool:
    return (participant.person_kind, participant.person_id) == (actor.kind, actor.id)


def invitations_close(*, actor: Principal, invitations: QuerySet[Invitation]) -> None:
    """Nobody comes by them any more, in the transaction of a caller that has locked their session.

    Those that are revoked stay as they are.
    """
    for invitation in invitations.filter(revoked_at=None):
        invitation.revoked_at = timezone.now()
        invitation.save(update_fields=["revoked_at"])
        audit.record(actor=actor, action="invitation.revoke", target=invitation, before=facts(invitation))


def _refuse_last_owner(changed: list[Participant]) -> None:
    """Those who stay need an owner, unless they have none now."""
    if not any(participant.role == Role.OWNER for participant in changed):
        return
    first = changed[0]
    others = Participant.objects.filter(tenant_id=first.tenant_id, session_id=first.session_id)
    roles = set(others.exclude(id__in=[each.id for each in changed]).values_list("role", flat=True))
    if roles and Role.OWNER not in roles:
        message = "The others would be left without an owner. Make somebody else owner first."
        raise Conflict(message, code="last_owner")


def locked_to_share(*, actor: Principal, ref: str) -> ChatSession:
    """The session, locked until the transaction ends, for who may say who takes part in it."""
    authorize(actor, "session.share")
    session = session_get(actor=actor, ref=ref, lock=True)
    authorize_in(actor=actor, session=session, permission="session.share")
    return session


def facts(of: Participant | Invitation) -> dict[str, Any]:
    """What the audit has of it."""
    session = str(of.session_id)
    if isinstance(of, Participant):
        return {"session": session, "kind": of.person_kind, "person": of.label, "role": of.role}
    ends = {"expires_at": of.expires_at.isoformat(), "max_uses": of.max_uses}
    return {"session": session, "role": of.role, "audience": of.audience, **ends}
