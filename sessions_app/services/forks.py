"""Sessions that begin with what was said in another one."""

import time
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from core import audit
from core.errors import Conflict, NotFound
from core.ids import NIL, parse_uuid
from sessions_app.models import ChatSession, Message
from sessions_app.selectors.sessions import message_list, session_get
from sessions_app.services.sessions import session_create
from tenants.principal import Principal

# The copies have ids that sort by time as ours do (core.ids.uuid7), and no run: theirs belong to the other session.
_COPY = """
    INSERT INTO message (id, tenant_id, session_id, seq, created_at, role, content, tool_calls, tool_call_id, name,
        status, agent_version_id, end_user, author_kind, author_id, author, client_id)
    SELECT (lpad(to_hex(%(ms)s::bigint + place / 4096), 12, '0') || '7' || lpad(to_hex(place %% 4096), 3, '0') || '8'
            || substr(replace(gen_random_uuid()::text, '-', ''), 18))::uuid,
        tenant_id, %(fork)s, place, created_at, role, content, tool_calls, tool_call_id, name, status,
        agent_version_id, end_user, author_kind, author_id, author, client_id
    FROM (
        SELECT *, row_number() OVER (ORDER BY seq) AS place FROM message
        WHERE tenant_id = %(tenant)s AND session_id = %(source)s AND seq <= %(last)s AND replaced_by IS NULL
    ) AS said
"""


@transaction.atomic
def session_fork(*, actor: Principal, ref: str, message_id: str | None = None, seq: int | None = None) -> ChatSession:
    """A new session of the actor's with the messages of another one up to a message, or all; without its files.

    After a call of a tool, its results belong to what is copied. Raises NotFound for a message that is not part of the
    conversation, Conflict for more than SESSION_FORK_MESSAGES.
    """
    source = session_get(actor=actor, ref=ref)
    said = message_list(actor=actor, session=source)
    last = _complete(said, _chosen(said, message_id, seq, source.last_seq))
    count = said.filter(seq__lte=last).count()
    if count > settings.SESSION_FORK_MESSAGES:
        most = f"A fork has at most {settings.SESSION_FORK_MESSAGES:,} messages, and this one would have {count:,}"
        raise Conflict(f"{most}; SESSION_FORK_MESSAGES on the server raises this limit.", code="session_too_long")
    agent = source.agent.slug if source.agent else None
    fork = session_create(actor=actor, agent=agent, title=source.title, end_user=source.end_user)
    _copy(source, fork, last)
    fork.forked_from, fork.forked_seq, fork.titled_by = source.id, last, source.titled_by
    fork.last_seq, fork.last_message_at = count, source.last_message_at
    fork.save(update_fields=["forked_from", "forked_seq", "titled_by", "last_seq", "last_message_at", "updated_at"])
    after = {"forked_from": str(source.id), "forked_seq": last, "messages": count}
    audit.record(actor=actor, action="session.fork", target=fork, after=after)
    return fork


def _chosen(said: QuerySet[Message], message_id: str | None, seq: int | None, last: int) -> int:
    """The seq of the message that the caller named."""
    if message_id is None and seq is None:
        return last
    chosen = said.filter(id=parse_uuid(message_id) or NIL) if seq is None else said.filter(seq=seq)
    found = chosen.values_list("seq", flat=True).first()
    if found is None:
        raise NotFound("This session has no such message, or it was replaced.", code="message_not_found")
    return int(found)


def _complete(said: QuerySet[Message], last: int) -> int:
    """The seq up to which nothing comes between a call of a tool and its results."""
    message = said.filter(seq__lte=last).order_by("-seq").first()
    if message is None or not (message.tool_calls or message.role == Message.Role.TOOL):
        return last
    following = said.filter(seq__gt=last)
    other = following.exclude(role=Message.Role.TOOL).values_list("seq", flat=True).first()
    results = following.filter(seq__lt=other) if other is not None else following
    return int(results.order_by("-seq").values_list("seq", flat=True).first() or last)


def _copy(source: ChatSession, fork: ChatSession, last: int) -> None:
    ids: dict[str, UUID | int] = {"tenant": source.tenant_id, "source": source.id, "fork": fork.id}
    with connection.cursor() as cursor:
        cursor.execute(_COPY, {**ids, "last": last, "ms": time.time_ns() // 1_000_000})
