"""What a guest may begin: turns with the one agent of a session in which they take part."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from core.errors import InvalidRequest, NotPermitted, RateLimited
from runs.services.turns import TurnRequest, new_messages
from sessions_app.models import ChatSession
from sessions_app.selectors.sessions import session_get
from tenants.permissions import refuse_guest
from tenants.principal import Principal

_WINDOW = timedelta(minutes=1)
_ROLES = ("user", "tool")  # what others say, and instructions, come from the tenant alone
_SAID = """
    SELECT k.messages_per_minute, count(r.id), min(r.created_at)
    FROM guest g JOIN publishable_key k ON k.tenant_id = g.tenant_id AND k.id = g.key_id
    LEFT JOIN run r ON r.tenant_id = g.tenant_id AND r.actor_kind = 'guest' AND r.actor_id = g.id
        AND r.created_at > %s
    WHERE g.tenant_id = %s AND g.id = %s GROUP BY k.id
"""


def check_guest(actor: Principal, request: TurnRequest) -> None:
    """Raises what a guest asks that is not theirs, and RateLimited for one who says too much; in a transaction.

    Before anything else of the turn is looked at, so that nothing is told of others' sessions, agents or models.
    """
    if "/" in request.model or request.session is None:
        refuse_guest(actor)
    if request.end_user:
        raise InvalidRequest("A guest speaks for themselves: leave the user out.", param="metadata.user_id")
    session = session_get(actor=actor, ref=request.session or "")
    if not _is_open_to(actor, request, session):
        message = "A guest talks with the session's own agent only; of a widget, with that which it has now."
        raise NotPermitted(message, code="agent_not_for_guests")
    said = new_messages(request.messages) if session.last_seq else request.messages
    if request.preamble or any(message["role"] not in _ROLES for message in said):
        raise NotPermitted("A guest may send messages of a user, and results of tools.", code="not_for_guests")
    if actor.widget is not None:
        _check_rate(actor)


def _is_open_to(actor: Principal, request: TurnRequest, session: ChatSession) -> bool:
    agent = session.agent
    if agent is None or request.model not in (agent.slug, str(agent.id)):
        return False
    return actor.widget is None or agent.slug == actor.widget.agent


def _check_rate(actor: Principal) -> None:
    """One at a time for a guest, so that turns that begin together do not pass the limit together."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"runs of guest {actor.id}"])
        since = timezone.now() - _WINDOW
        cursor.execute(_SAID, [since, actor.tenant_id, actor.id])
        limit, said, first = cursor.fetchone() or (None, 0, since)
    if limit is not None and said >= limit:
        message = f"A visitor may say {limit} messages a minute; the publishable key's messages_per_minute raises this."
        raise RateLimited(message, code="too_many_messages", retry_after=(first - since).total_seconds())
