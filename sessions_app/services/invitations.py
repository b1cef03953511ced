"""Links into sessions. Their writes lock the session's row first, as those to its participants do."""

import secrets
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from core import audit
from core.errors import NotFound
from core.ids import NIL, parse_uuid
from sessions_app.exceptions import InvitationInvalid
from sessions_app.models import Invitation, Participant
from sessions_app.selectors.participants import invitation_list
from sessions_app.services.participants import (
    facts,
    locked_to_share,
    participants_delete,
)
from tenants.authentication import secret_digest
from tenants.principal import Principal

PREFIX = "asi"


class Accepted(NamedTuple):
    session_id: UUID
    role: str


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
    if found.revoked_at is None:
        found.revoked_at = timezone.now()
        found.save(update_fields=["revoked_at"])
        audit.record(actor=actor, action="invitation.revoke", target=found, before=facts(found))
    if participants:
        came = Participant.objects.filter(tenant_id=actor.tenant_id, session=session, invitation=found)
        participants_delete(actor=actor, participants=list(came))


def tenant_of(token: str) -> UUID:
    """The tenant that a token names; nobody has looked yet whether it is right. Raises InvitationInvalid."""
    prefix, _, rest = token.partition("_")
    tenant_id = parse_uuid(rest.partition("_")[0]) if prefix == PREFIX else None
    if tenant_id is None:
        raise InvitationInvalid
    return tenant_id
