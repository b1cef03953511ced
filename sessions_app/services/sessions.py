"""Writes to sessions and their messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from agents.models import Agent, AgentVersion
from agents.selectors import agent_get
from core import audit
from core.errors import Conflict, InvalidRequest
from core.ids import parse_uuid
from sessions_app.models import ChatSession, Message, Participant
from sessions_app.selectors.participants import authorize_in
from sessions_app.selectors.sessions import is_name_for, session_get, session_or_new
from sessions_app.services.visitors import visitor_agent
from tenants.permissions import authorize, is_person
from tenants.principal import Principal, system_principal

_TITLE_LENGTH = 80


@transaction.atomic
def session_create(*, actor: Principal, agent: str | None = None, **fields: Any) -> ChatSession:
    """A new, empty session: `external_id`, `title`, `end_user`, `metadata`.

    Raises NotFound for an unknown agent, Conflict where `external_id` is in use; by somebody else's session that the
    actor may not see, NotFound.
    """
    try:
        return _create(actor, _agent_of(actor, agent, fields), **fields)
    except Conflict:
        session_get(actor=actor, ref=fields["external_id"])
        raise


def _agent_of(actor: Principal, agent: str | None, fields: Mapping[str, Any]) -> Agent | None:
    if actor.kind == "guest":
        told = {name: fields.get(name) or None for name in ("external_id", "end_user")}
        return visitor_agent(actor=actor, agent=agent, **told)
    return agent_get(actor=actor, ref=agent) if agent else None


def _create(
    actor: Principal,
    agent: Agent | None,
    *,
    external_id: str | None = None,
    title: str = "",
    end_user: str = "",
    metadata: dict[str, Any] | None = None,
) -> ChatSession:
    """In the caller's transaction, which a Conflict leaves as it was. A person who makes it is its owner."""
    authorize(actor, "session.edit")
    if external_id is not None and not is_name_for(actor, external_id):
        message = "Give a UUID, or no external_id: other names of sessions are for programs with an API key."
        raise InvalidRequest(message, code="name_for_programs", param="external_id")
    session = ChatSession(
        tenant_id=actor.tenant_id,
        agent=agent,
        external_id=external_id,
        title=title,
        titled_by=_titled_by(title),
        end_user=end_user,
        metadata=metadata or {},
        created_by=actor.label,
    )
    try:
        with transaction.atomic():
            session.save(force_insert=True)
    except IntegrityError:
        message = f"A session with the id {external_id} exists."
        raise Conflict(message, code="session_exists", param="external_id") from None
    session.my_role = Participant.Role.OWNER.value
    if is_person(actor):
        who = {"person_kind": actor.kind, "person_id": actor.id, "label": actor.label}
        Participant.objects.create(tenant_id=actor.tenant_id, session=session, role=session.my_role, **who)
    after = {"agent": agent.slug if agent else None, "external_id": external_id, "title": title}
    audit.record(actor=actor, action="session.create", target=session, after=after)
    return session


def session_for_turn(*, actor: Principal, ref: str | None, agent: Agent, end_user: str) -> ChatSession:
    """The session that a turn belongs to, locked until the caller's transaction ends; made on its first use.

    One that is made here is seen by nobody before that. Raises NotFound for one that the actor may not see,
    NotPermitted for one in which they may not speak.
    """
    session = session_or_new(actor=actor, ref=ref, lock=True) if ref else None
    if session is None:
        try:
            return _create(actor, agent, external_id=ref, end_user=end_user)
        except Conflict:  # another request made it meanwhile
            session = session_get(actor=actor, ref=ref or "", lock=True)
    authorize_in(actor=actor, session=session, permission="chat.run")
    if session.status == ChatSession.Status.CLOSED:
        raise Conflict("The session is closed; PATCH its status to open.", code="session_closed")
    if session.status == ChatSession.Status.ARCHIVED:
        raise Conflict("The session is archived; PATCH its status to open.", code="session_archived")
    return session


@transaction.atomic
def session_update(*, actor: Principal, ref: str, **changes: Any) -> ChatSession:
    """Change `title`, `metadata` or `status`. No model renames what got a title here; an empty one is free again."""
    authorize(actor, "session.edit")
    session = session_get(actor=actor, ref=ref, lock=True)
    authorize_in(actor=actor, session=session, permission="session.edit")
    titled_by = _titled_by(changes["title"]) if "title" in changes else session.titled_by
    before = {name: getattr(session, name) for name in changes}
    if before == changes and titled_by == session.titled_by:
        return session
    for name, value in changes.items():
        setattr(session, name, value)
    session.titled_by = titled_by
    session.save(update_fields=[*changes, "titled_by", "updated_at"])
    audit.record(actor=actor, action="session.update", target=session, before=before, after=changes)
    return session


def _titled_by(title: str) -> str:
    return ChatSession.TitledBy.PERSON if title else ChatSession.TitledBy.START


@transaction.atomic
def session_close_idle(*, tenant_id: UUID, session_id: UUID, before: datetime) -> None:
    """Close a session in which nothing was said since `before`; one that was used or closed meanwhile stays so."""
    sessions = ChatSession.objects.select_for_update(of=("self",)).filter(tenant_id=tenant_id, id=session_id)
    session = sessions.filter(status=ChatSession.Status.OPEN).first()
    if session is None or (session.last_message_at or session.created_at) >= before:
        return
    session.status = ChatSession.Status.CLOSED
    session.save(update_fields=["status", "updated_at"])
    changed = {"before": {"status": "open"}, "after": {"status": "closed"}}
    audit.record(actor=system_principal(tenant_id, ""), action="session.close", target=session, **changed)


@transaction.atomic
def session_delete(*, actor: Principal, ref: str) -> None:
    """Delete a session with its messages and runs; locked, so that no turn of it begins or ends meanwhile."""
    authorize(actor, "session.edit")
    session = session_get(actor=actor, ref=ref, lock=True)
    authorize_in(actor=actor, session=session, permission="session.edit")
    before = {"external_id": session.external_id, "title": session.title, "messages": session.last_seq}
    audit.record(actor=actor, action="session.delete", target=session, before=before)
    session.delete()


def messages_append(
    *,
    session: ChatSession,
    messages: Sequence[dict[str, Any]],
    run_id: UUID,
    agent_version: AgentVersion | None = None,
    end_user: str = "",
    status: str = Message.Status.COMPLETE,
    author: dict[str, Any] | None = None,
) -> list[Message]:
    """Append messages in OpenAI's shape; the caller holds the session's row lock and records the audit event.

    Each may have an `id`, by which clients know it, and the `author` of a user's one: its `kind`, `id`, `label` and
    `user_id`; without that it is the given `author`'s. `status` marks the last of them. The others are complete, or
    `failed`: results of tools with `is_error`.
    """
    rows = [_row(session, message, session.last_seq + offset) for offset, message in enumerate(messages, start=1)]
    for row, message in zip(rows, messages, strict=True):
        row.run_id = run_id
        row.agent_version = agent_version if row.role == Message.Role.ASSISTANT else None
        if row.role == Message.Role.USER:
            _sign(row, message.get("author") or {"user_id": end_user, **(author or {})})
    if rows and status != Message.Status.COMPLETE:
        rows[-1].status = status
    _keep_ids_apart(session, [row for row in rows if row.role == Message.Role.USER and row.client_id])
    Message.objects.bulk_create(rows)
    session.last_seq += len(rows)
    session.last_message_at = timezone.now()
    session.title = session.title or _title(messages)
    session.save(update_fields=["last_seq", "last_message_at", "title", "updated_at"])
    return rows


def _row(session: ChatSession, message: dict[str, Any], seq: int) -> Message:
    failed = message["role"] == Message.Role.TOOL and message.get("is_error") is True
    return Message(
        tenant_id=session.tenant_id,
        session=session,
        seq=seq,
        role=message["role"],
        content=message.get("content"),
        tool_calls=message.get("tool_calls") or None,
        tool_call_id=message.get("tool_call_id") or "",
        name=message.get("name") or "",
        client_id=message.get("id") or "",
        status=Message.Status.FAILED if failed else Message.Status.COMPLETE,
    )


def _keep_ids_apart(session: ChatSession, rows: Sequence[Message]) -> None:
    """An id that another message of the session goes by is not taken over: clients would show only one of the two."""
    if not rows:
        return
    asked = {row.client_id for row in rows}
    named = Q(client_id__in=asked) | Q(id__in=[ours for id in asked if (ours := parse_uuid(id))])
    others = Message.objects.filter(named, tenant_id=session.tenant_id, session_id=session.id, replaced_by=None)
    taken = {name for id, client_id in others.values_list("id", "client_id") for name in (str(id), client_id)}
    for row in rows:
        if row.client_id in taken:
            row.client_id = ""


def _sign(row: Message, author: dict[str, Any]) -> None:
    row.author_kind, row.author = author.get("kind") or "", author.get("label") or ""
    row.author_id = UUID(author["id"]) if author.get("id") else None
    row.end_user = author.get("user_id") or ""


def _title(messages: Sequence[dict[str, Any]]) -> str:
    """The beginning of the first thing that the user said."""
    for message in messages:
        content = message.get("content")
        if message["role"] == "user" and isinstance(content, str):
            return " ".join(content.split())[:_TITLE_LENGTH]
    return ""
