"""Who takes part in a session, on its page: shown to all who see it, changed by those who may share it."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.utils import timezone

from core.errors import ApplicationError, InvalidRequest
from sessions_app.models import ChatSession, Invitation, Participant
from sessions_app.selectors.participants import invitation_list, participant_list
from sessions_app.services.invitations import invitation_revoke
from sessions_app.services.participants import participant_remove, participant_update
from tenants.admin_base import actor_of, may

MOST_SHOWN = 100  # participants, and invitations, of one session


def sharing_context(request: HttpRequest, session: ChatSession) -> dict[str, Any]:
    """`session` comes with the reader's role in it."""
    actor = actor_of(request)
    shares = session.my_role == Participant.Role.OWNER and may(request, "session.share")
    people = list(participant_list(actor=actor, session=session)[: MOST_SHOWN + 1])
    invited = list(invitation_list(actor=actor, session=session)[:MOST_SHOWN]) if shares else []
    return {
        "shares": shares,
        "people": people[:MOST_SHOWN],
        "more_people": len(people) > MOST_SHOWN,
        "roles": Participant.Role.choices,
        "invitations": [{"invitation": each, "state": _state(each)} for each in invited],
    }


def _state(invitation: Invitation) -> str:
    if invitation.revoked_at is not None:
        return "revoked"
    if invitation.expires_at <= timezone.now():
        return "expired"
    used_up = invitation.max_uses is not None and invitation.uses >= invitation.max_uses
    return "used up" if used_up else "open"


def sharing_post(request: HttpRequest, ref: str) -> None:
    """Do what a button of the page says, through the services; tell how it went."""
    try:
        messages.success(request, _done(request, ref))
    except ApplicationError as error:
        messages.error(request, error.message)


def _done(request: HttpRequest, ref: str) -> str:
    asked, actor = request.POST, actor_of(request)
    match asked.get("do"):
        case "role" if asked.get("role") in Participant.Role.values:
            person = asked.get("participant", "")
            changed = participant_update(actor=actor, ref=ref, participant=person, role=asked["role"])
            return f"{changed.label} is {changed.role} now."
        case "remove":
            participant_remove(actor=actor, ref=ref, participant=asked.get("participant", ""))
            return "They take no part in the session any more."
        case "revoke" | "revoke-all":
            gone = asked["do"] == "revoke-all"
            invitation_revoke(actor=actor, ref=ref, invitation=asked.get("invitation", ""), participants=gone)
            return (
                "The invitation was revoked, and who came by it was removed." if gone else "The invitation was revoked."
            )
        case _:
            raise InvalidRequest("The page is out of date: load it again.")
