"""Links into sessions. Their writes lock the session's row first, as those to its participants do."""

import secrets
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from core import audit
from core.errors import NotFound, NotPermitted
from core.ids import NIL, parse_uuid
from core.request_context import current_request
from sessions_app.exceptions import InvitationInvalid
from sessions_app.models import ChatSession, Invitation, Participant
from sessions_app.selectors.participants import ROLE_RANK, invitation_list, session_role
from sessions_app.services.participants import (
    facts,
    invitations_close,
    locked_to_share,
    participant_create,
    participant_set_role,
    participants_delete,
)
from tenants.authentication import secret_digest
from tenants.models import Guest, Tenant
from tenants.permissions import is_person
from tenants.principal import Principal
from tenants.services.guests import guest_create, guest_principal

PREFIX = "asi"


GUEST_LIFETIME = timedelta(days=90)


class NewGuest(NamedTuple):
    guest: Guest
    secret: str


class Accepted(NamedTuple):
    """`role` is what the person may be now; `guest` is new, for somebody who is nobody yet."""

    session_id: UUID
    role: str
    guest: NewGuest | None


@transaction.atomic
def invitation_create(
    *, actor: Principal, ref: str, role: str, audience: str, expires_in: int, max_uses: int | None = None
) -> tuple[Invitation, str]:
    """A new link and its token, which is shown this once: only the SHA-256 of its secret is stored."""
    session = locked_to_share(actor=actor, ref=ref)
    secret = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        tenant_id=actor.tenant_id,
        session=session,
        secret_hash=secret_digest(secret),
        role=role,
        audience=audience,
        expires_at=timezone.now() + timedelta(seconds=expires_in),
        max_uses=max_uses,
        created_by=actor.label,
    )
    audit.record(actor=actor, action="invitation.create", target=invitation, after=facts(invitation))
    return invitation, f"{PREFIX}_{actor.tenant_id.hex}_{secret}"


@transaction.atomic
def invitation_revoke(*, actor: Principal, ref: str, invitation: str, participants: bool = False) -> None:
    """Nobody comes by it any more; with `participants`, those who came by it are taken out.

    Revoking what is revoked changes nothing.
    """
    session = locked_to_share(actor=actor, ref=ref)
    found = invitation_list(actor=actor, session=session).filter(id=parse_uuid(invitation) or NIL).first()
    if found is None:
        raise NotFound("No invitation with this id.", code="invitation_not_found")
    invitations_close(actor=actor, invitations=Invitation.objects.filter(tenant_id=actor.tenant_id, id=found.id))
    if participants:
        came = Participant.objects.filter(tenant_id=actor.tenant_id, session=session, invitation=found)
        participants_delete(actor=actor, participants=list(came))


def tenant_of(token: str) -> UUID:
    """The tenant that a token names; nobody has looked yet whether it is right. Raises InvitationInvalid."""
    tenant_id, _ = _parts(token)
    return tenant_id


def _parts(token: str) -> tuple[UUID, bytes]:
    prefix, _, rest = token.partition("_")
    tenant, _, secret = rest.partition("_")
    try:
        tenant_id = UUID(hex=tenant)
    except ValueError:
        raise InvitationInvalid from None
    if prefix != PREFIX:
        raise InvitationInvalid
    return tenant_id, secret_digest(secret)


@transaction.atomic
def invitation_accept(*, token: str, person: Principal | None, name: str = "") -> Accepted:
    """The person takes part, or may do more than before; nobody becomes a guest of that `name`.

    Who came by the same invitation before may do no more by it.

    Call it in the token's tenant. Raises InvitationInvalid, whatever is wrong with the invitation.
    """
    if person is not None and not is_person(person):
        raise NotPermitted("An invitation is for people: sign in, or accept it without a key.", code="not_for_programs")
    invitation = _usable(token, person)
    session = invitation.session
    mine = _participant(session, person) if person else None
    if person and mine and not _raises(invitation, mine):
        return Accepted(session.id, session_role(actor=person, session=session), None)
    _use(invitation)
    new = None
    if person is None:
        new = _guest(invitation, name)
        person = guest_principal(new.guest)
    if mine:
        participant_set_role(actor=person, participant=mine, role=invitation.role)
    else:
        came = {"person_kind": person.kind, "person_id": person.id, "label": person.label, "invitation": invitation}
        participant_create(actor=person, session=session, role=invitation.role, **came)
    return Accepted(session.id, session_role(actor=person, session=session), new)


def _usable(token: str, person: Principal | None) -> Invitation:
    """As it is once its session is locked."""
    tenant_id, digest = _parts(token)
    those = Invitation.objects.select_related("tenant").filter(tenant_id=tenant_id, secret_hash=digest)
    found = those.first()
    sessions = ChatSession.objects.select_for_update().filter(tenant_id=tenant_id)
    session = sessions.filter(id=found.session_id).first() if found else None
    invitation = those.first() if session else None
    if session is None or invitation is None or not _admits(invitation, person):
        raise InvitationInvalid
    invitation.session = session
    return invitation


def _admits(invitation: Invitation, person: Principal | None) -> bool:
    member = person is not None and person.kind == "user"
    return (
        invitation.revoked_at is None
        and invitation.expires_at > timezone.now()
        and invitation.tenant.status == Tenant.Status.ACTIVE
        and (person is None or person.tenant_id == invitation.tenant_id)
        and (member or invitation.audience == Invitation.Audience.ANYONE)
    )


def _participant(session: ChatSession, person: Principal) -> Participant | None:
    those = Participant.objects.filter(tenant_id=session.tenant_id, session_id=session.id)
    return those.filter(person_kind=person.kind, person_id=person.id or NIL).first()


def _raises(invitation: Invitation, mine: Participant) -> bool:
    """Not who came by it: they have had its role, and may have less by now."""
    return ROLE_RANK[mine.role] < ROLE_RANK[invitation.role] and mine.invitation_id != invitation.id


def _use(invitation: Invitation) -> None:
    if invitation.max_uses is not None and invitation.uses >= invitation.max_uses:
        raise InvitationInvalid
    invitation.uses += 1
    invitation.save(update_fields=["uses"])


def _guest(invitation: Invitation, name: str) -> NewGuest:
    label, address = name.strip() or "Guest", current_request().ip
    made = guest_create(tenant_id=invitation.tenant_id, label=label, lifetime=GUEST_LIFETIME, address=address)
    return NewGuest(*made)
