"""Reads of sessions and messages; what belongs to another tenant, or to others alone, is missing."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from sessions_app.models import ChatSession, Message
from sessions_app.selectors.participants import NO_SESSION, confine, my_role, taken_part_in
from tenants.permissions import authorize, is_allowed, is_confined
from tenants.principal import Principal


def session_list(
    *,
    actor: Principal,
    q: str = "",
    agent: str = "",
    end_user: str = "",
    status: str = "",
    archived: bool = True,
) -> QuerySet[ChatSession]:
    """`q` is the beginning of a title or of the client's own id; the other filters match exactly.

    Each has the actor's role in it as `my_role`.
    With `archived` False, those that are archived are left out where no status is asked for.
    """
    authorize(actor, "session.view")
    sessions = ChatSession.objects.filter(tenant_id=actor.tenant_id).select_related("agent")
    sessions = confine(sessions, actor=actor, session="id")
    sessions = sessions.annotate(my_role=my_role(actor))  # type: ignore[no-redef]  # the model declares it
    if q:
        sessions = sessions.filter(Q(title__istartswith=q) | Q(external_id__startswith=q))
    if agent:
        sessions = sessions.filter(agent__slug=agent)
    if end_user:
        sessions = sessions.filter(end_user=end_user)
    if status:
        return sessions.filter(status=status)
    return sessions if archived else sessions.exclude(status=ChatSession.Status.ARCHIVED)


def my_sessions(sessions: QuerySet[ChatSession], *, actor: Principal) -> QuerySet[ChatSession]:
    """Those of them that the actor takes part in, with `active_at`: when something was last said."""
    mine = sessions.filter(id__in=taken_part_in(actor))
    return mine.annotate(active_at=Coalesce("last_message_at", "created_at"))


def session_find(*, actor: Principal, ref: str, lock: bool = False) -> ChatSession | None:
    """By our id, else by the client's own id for it; with `lock` its row is locked until the transaction ends."""
    sessions = session_list(actor=actor)
    if lock:
        sessions = sessions.select_for_update(of=("self",))
    ours = parse_uuid(ref)
    found = sessions.filter(id=ours).first() if ours else None
    return found or sessions.filter(external_id=ref).first()


def session_get(*, actor: Principal, ref: str, lock: bool = False) -> ChatSession:
    session = session_find(actor=actor, ref=ref, lock=lock)
    if session is None:
        raise NotFound(NO_SESSION)
    return session


def session_or_new(*, actor: Principal, ref: str, lock: bool = False) -> ChatSession | None:
    """As `session_find`; None where the actor may make a session of this name.

    Raises NotFound, for a confined actor, where it is somebody else's or a name that can be guessed, and for guests,
    whose sessions have our ids.
    """
    session = session_find(actor=actor, ref=ref, lock=lock)
    if session is None and is_confined(actor) and not _may_make(actor, ref):
        raise NotFound(NO_SESSION)
    return session


def _may_make(actor: Principal, ref: str) -> bool:
    if actor.kind == "guest" or not is_allowed(actor, "session.edit") or not is_name_for(actor, ref):
        return False
    of_that_name = Q(external_id=ref) | Q(id=parse_uuid(ref) or NIL)
    return not ChatSession.objects.filter(of_that_name, tenant_id=actor.tenant_id).exists()


def is_name_for(actor: Principal, external_id: str) -> bool:
    """May the actor name a new session so? Names are for programs, such as a customer's number: a person who took one
    first would be in the conversation. Clients of persons give UUIDs.
    """
    return not is_confined(actor) or parse_uuid(external_id) is not None


def message_list(*, actor: Principal, session: ChatSession, replaced: bool = False) -> QuerySet[Message]:
    """In the order in which they were said; with those that were `replaced` only when asked for."""
    authorize(actor, "session.view")
    messages = Message.objects.filter(tenant_id=actor.tenant_id, session_id=session.id)
    messages = confine(messages, actor=actor)
    if not replaced:
        messages = messages.filter(replaced_by=None)
    return messages.select_related("agent_version__agent").order_by("seq")


def message_get(*, actor: Principal, session: ChatSession, ref: str) -> Message:
    found = message_list(actor=actor, session=session).filter(id=parse_uuid(ref) or NIL).first()
    if found is None:
        raise NotFound("No message with this id in this session.", code="message_not_found")
    return found


def history(*, session: ChatSession, until: int | None = None, not_yet: Collection[UUID] = ()) -> list[dict[str, Any]]:
    """The messages of a session in OpenAI's shape, as the context of a turn: all, or those up to the seq `until`.

    Without those that were replaced, but for what the runs `not_yet` have replaced.
    """
    messages = Message.objects.filter(tenant_id=session.tenant_id, session_id=session.id).order_by("seq")
    messages = messages.filter(Q(replaced_by=None) | Q(replaced_by__in=not_yet) if not_yet else Q(replaced_by=None))
    if until is not None:
        messages = messages.filter(seq__lte=until)
    return [openai_message(message) for message in messages]


def openai_message(message: Message) -> dict[str, Any]:
    shaped: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        shaped["tool_calls"] = message.tool_calls
    if message.tool_call_id:
        shaped["tool_call_id"] = message.tool_call_id
    if message.name:
        shaped["name"] = message.name
    return shaped
