"""What a guest may begin: turns with the one agent of a session in which they take part."""

from datetime import timedelta

import orjson
from django.conf import settings
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
MOST_SAID = 100_000  # bytes of the messages of one turn, as JSON
# By the audit, which stays when a guest deletes their session.
_SAID = """
    SELECT coalesce(k.messages_per_minute, %s), count(a.id), min(a.created_at)
    FROM guest g LEFT JOIN publishable_key k ON k.tenant_id = g.tenant_id AND k.id = g.key_id
    LEFT JOIN audit_event a ON a.tenant_id = g.tenant_id AND a.created_at > %s AND a.actor_kind = 'guest'
        AND a.actor_id = g.id AND a.action = 'run.create'
    WHERE g.tenant_id = %s AND g.id = %s GROUP BY k.id
"""


def check_guest(actor: Principal, request: TurnRequest) -> None:
    """Raises what a guest asks that is not theirs.

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
    if request.params or request.metadata:
        message = "A guest sends messages; parameters of the model and metadata are the agent's."
        raise NotPermitted(message, code="not_for_guests")
    if len(orjson.dumps(said)) > MOST_SAID:
        raise InvalidRequest(f"A guest may send {MOST_SAID:,} bytes at once.", code="too_long", param="messages")


def _is_open_to(actor: Principal, request: TurnRequest, session: ChatSession) -> bool:
    agent = session.agent
    if agent is None or request.model not in (agent.slug, str(agent.id)):
        return False
    return actor.widget is None or agent.slug == actor.widget.agent


def check_rate(actor: Principal) -> None:
    """Raises RateLimited for a guest who says too much; in a transaction.

    One at a time for a guest, so that turns that begin together do not pass the limit together.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"runs of guest {actor.id}"])
        since = timezone.now() - _WINDOW
        cursor.execute(_SAID, [settings.GUEST_MESSAGES_PER_MINUTE, since, actor.tenant_id, actor.id])
        limit, said, first = cursor.fetchone() or (0, 0, since)
    if said >= limit:
        raises = "the publishable key's messages_per_minute, or GUEST_MESSAGES_PER_MINUTE on the server, raises this"
        message = f"A guest may say {limit} messages a minute; {raises}."
        raise RateLimited(message, code="too_many_messages", retry_after=((first or since) - since).total_seconds())
