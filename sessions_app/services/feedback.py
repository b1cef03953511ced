"""Writes to what people think of answers."""

from django.db import transaction

from core import audit
from core.errors import InvalidRequest, NotFound
from sessions_app.models import Message, MessageFeedback
from sessions_app.selectors.feedback import Rater, rater_of
from sessions_app.selectors.participants import authorize_in
from sessions_app.selectors.sessions import message_get, session_get
from tenants.permissions import authorize
from tenants.principal import Principal


@transaction.atomic
def feedback_give(
    *, actor: Principal, ref: str, message_id: str, rating: str, comment: str = "", end_user: str = ""
) -> MessageFeedback:
    """The actor's opinion of an answer, or the end user's, in place of an earlier one.

    Raises InvalidRequest for a message that is no answer.
    """
    message, rater = _rated(actor, ref, message_id, end_user)
    before = _given(message, rater)
    values = {"rating": rating, "comment": comment, "label": rater.label}
    feedback, _ = MessageFeedback.objects.update_or_create(
        tenant_id=message.tenant_id, message=message, person_kind=rater.kind, person_id=rater.id, defaults=values
    )
    audit.record(
        actor=actor,
        action="feedback.give",
        target=feedback,
        before={"rating": before.rating} if before else None,
        after={"message": str(message.id), "rating": rating, "user_id": end_user},
    )
    return feedback


@transaction.atomic
def feedback_withdraw(*, actor: Principal, ref: str, message_id: str, end_user: str = "") -> None:
    message, rater = _rated(actor, ref, message_id, end_user)
    feedback = _given(message, rater)
    if feedback is None:
        raise NotFound("There is no feedback of yours on this message.", code="feedback_not_found")
    before = {"message": str(message.id), "rating": feedback.rating, "user_id": end_user}
    audit.record(actor=actor, action="feedback.withdraw", target=feedback, before=before)
    feedback.delete()


def _rated(actor: Principal, ref: str, message_id: str, end_user: str) -> tuple[Message, Rater]:
    authorize(actor, "chat.run")
    session = session_get(actor=actor, ref=ref)
    authorize_in(actor=actor, session=session, permission="chat.run")
    message = message_get(actor=actor, session=session, ref=message_id)
    if message.role != Message.Role.ASSISTANT:
        raise InvalidRequest("Only answers, messages of the role assistant, take feedback.", code="not_an_answer")
    return message, rater_of(actor, end_user)


def _given(message: Message, rater: Rater) -> MessageFeedback | None:
    rows = MessageFeedback.objects.filter(tenant_id=message.tenant_id, message_id=message.id)
    return rows.filter(person_kind=rater.kind, person_id=rater.id).first()
