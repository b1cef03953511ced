"""Answers that are asked for anew: from one message on, a session goes on differently."""

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from core.errors import Conflict, NotFound, NotPermitted
from core.ids import NIL, parse_uuid
from sessions_app.models import ChatSession, Message, Participant
from sessions_app.selectors.participants import session_role
from tenants.principal import Principal


def replaceable(*, session: ChatSession, ref: str | int) -> int:
    """The seq of a message, by that, our id or its client's; the caller holds the session's row lock.

    Raises NotFound, and Conflict for one that was replaced before.
    """
    found = list(_messages(session).filter(_named(str(ref))).order_by("-seq").values_list("seq", "replaced_by"))
    if not found:
        raise NotFound("The session has no such message.", code="message_not_found", param="replace_from")
    kept = next((seq for seq, replaced_by in found if replaced_by is None), None)
    if kept is None:
        message = "This message was replaced already: read the session's messages again."
        raise Conflict(message, code="message_replaced", param="replace_from")
    return kept


def refuse_others(*, actor: Principal, session: ChatSession, seq: int) -> None:
    """Raises NotPermitted for a member who would replace what others said; owners may."""
    if session_role(actor=actor, session=session) == Participant.Role.OWNER:
        return
    said = _messages(session).filter(seq__gte=seq, role=Message.Role.USER, replaced_by=None)
    if said.exclude(author_kind=actor.kind, author_id=actor.id).exists():
        message = "Only owners of the session replace what others said: begin after their last message, or fork it."
        raise NotPermitted(message, code="others_message", param="replace_from")


def messages_replace(*, session: ChatSession, seq: int, run_id: UUID) -> None:
    """The message with this seq and all after it are no longer part of the conversation."""
    _messages(session).filter(seq__gte=seq, replaced_by=None).update(replaced_by=run_id)


def messages_before(*, session: ChatSession, seq: int, most: int) -> list[Message]:
    """Those that stay when the seq and all after it are replaced: the last of them, in order."""
    rows = _messages(session).filter(seq__lt=seq, replaced_by=None)
    return list(reversed(rows.order_by("-seq")[:most]))


def messages_from(*, session: ChatSession, ref: str, most: int) -> list[Message]:
    """The message with this id, ours or its client's, and those that follow it; none where the session has no such."""
    rows = _messages(session).filter(replaced_by=None).order_by("seq")
    found = rows.filter(Q(client_id=ref) | Q(id=parse_uuid(ref) or NIL)).last()
    return list(rows.filter(seq__gte=found.seq)[:most]) if found else []


def _messages(session: ChatSession) -> QuerySet[Message]:
    return Message.objects.filter(tenant_id=session.tenant_id, session_id=session.id)


def _named(ref: str) -> Any:
    """Digits are a seq, as no id of ours is without others."""
    if ref.isascii() and ref.isdecimal():
        return Q(seq=int(ref)) if len(ref) < 10 else Q(id=NIL)
    ours = parse_uuid(ref)
    return Q(id=ours) | Q(client_id=ref) if ours else Q(client_id=ref)
