"""What a guest may begin: turns with the one agent of a session in which they take part."""

import orjson
from django.conf import settings

from audit.models import AuditEvent
from core.errors import InvalidRequest, NotPermitted
from core.ids import NIL
from runs.services.turns import TurnRequest, new_messages
from sessions_app.models import ChatSession
from sessions_app.selectors.sessions import session_get
from sessions_app.services.visitors import lock_for, messages_per_minute, refuse_more
from tenants.permissions import refuse_guest
from tenants.principal import Principal

_ROLES = ("user", "tool")  # what others say, and instructions, come from the tenant alone
MOST_SAID = 100_000  # bytes of the messages of one turn, as JSON


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

    One at a time for a guest, so that turns that begin together do not pass the limit together. It is counted by the
    audit, which stays when a guest deletes their session.
    """
    lock_for(f"runs of guest {actor.id}")
    limit = messages_per_minute(actor)
    if limit is None:
        limit = settings.GUEST_MESSAGES_PER_MINUTE
    said = AuditEvent.objects.filter(
        tenant_id=actor.tenant_id, actor_kind="guest", actor_id=actor.id or NIL, action="run.create"
    )
    raises = "the publishable key's messages_per_minute, or GUEST_MESSAGES_PER_MINUTE on the server, raises this"
    refuse_more(said, limit, f"A guest may say {limit} messages a minute; {raises}.", "too_many_messages")
