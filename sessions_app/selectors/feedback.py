"""What people think of answers."""

from typing import NamedTuple
from uuid import UUID, uuid5

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from core.errors import InvalidRequest
from core.ids import NIL
from sessions_app.models import Message, MessageFeedback
from sessions_app.selectors.participants import confine
from tenants.permissions import authorize
from tenants.principal import Principal


class Rater(NamedTuple):
    """Whose opinion it is: a user's, a guest's, an API key's, or that of the end user for whom the key asks."""

    kind: str
    id: UUID
    label: str


def rater_of(actor: Principal, end_user: str = "") -> Rater:
    """Raises InvalidRequest for a person who names an end user."""
    if not end_user:
        return Rater(actor.kind, actor.id or NIL, actor.label)
    if actor.kind != "api_key":
        raise InvalidRequest("Only an API key speaks for an end user: leave user_id out.", param="user_id")
    return Rater("end_user", uuid5(actor.tenant_id, end_user), end_user)


def with_feedback(messages: QuerySet[Message], *, actor: Principal, end_user: str = "") -> QuerySet[Message]:
    """Each with `up` and `down`, the numbers of opinions, and `mine`, the actor's or the end user's; in one query."""
    given = MessageFeedback.objects.filter(tenant_id=actor.tenant_id, message_id=OuterRef("id")).order_by()
    who = rater_of(actor, end_user)
    mine = given.filter(person_kind=who.kind, person_id=who.id).values("rating")
    return messages.annotate(up=_count(given, "up"), down=_count(given, "down"), mine=Subquery(mine))


def _count(given: QuerySet[MessageFeedback], rating: str) -> Coalesce:
    counted = given.filter(rating=rating).values("message_id").annotate(count=Count("id")).values("count")
    return Coalesce(Subquery(counted), 0)


def feedback_totals(*, actor: Principal, agent_id: UUID) -> dict[str, int]:
    """How many opinions of either kind there are on the answers of an agent, by any of its versions."""
    authorize(actor, "session.view")
    given = MessageFeedback.objects.filter(tenant_id=actor.tenant_id, message__agent_version__agent_id=agent_id)
    given = confine(given, actor=actor, session="message__session_id")
    found = dict(given.order_by().values_list("rating").annotate(count=Count("id")))
    return {rating: found.get(rating, 0) for rating in MessageFeedback.Rating.values}
