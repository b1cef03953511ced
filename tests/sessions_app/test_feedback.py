"""Feedback on answers, over REST."""

from typing import Any

import pytest

from audit.models import AuditEvent
from core.tenant import tenant_context
from sessions_app.models import ChatSession, MessageFeedback
from sessions_app.selectors.feedback import feedback_totals
from tenants.models import Tenant
from tests.conftest import Actor, make_actor
from tests.sessions_app.talking import answer, messages_of, talk, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def session(owner: Actor, scripted: str) -> ChatSession:
    return talk(owner, user("Hello"), answer("Hi"), user("Well?"), answer("Well."), agent=scripted)


def path(session: ChatSession, seq: int = 2) -> str:
    return f"sessions/{session.id}/messages/{messages_of(session)[seq - 1].id}/feedback"


def counts(actor: Actor, session: ChatSession, **query: Any) -> list[Any]:
    return [row["feedback"] for row in actor.get(f"sessions/{session.id}/messages", **query).json()["data"]]


def test_feedback_is_given_changed_and_withdrawn(
    owner: Actor, session: ChatSession, in_acme: Tenant, django_assert_num_queries: Any
) -> None:
    colleague = make_actor(in_acme, "member")
    given = owner.put(path(session), {"rating": "up", "comment": "Nice"}).json()
    assert (given["rating"], given["comment"], given["by"]) == ("up", "Nice", owner.principal.label)
    owner.put(path(session), {"rating": "down"})
    colleague.put(path(session), {"rating": "down"})
    none = {"up": 0, "down": 0, "mine": None}
    assert counts(owner, session) == [none, {"up": 0, "down": 2, "mine": "down"}, none, none]
    assert feedback_totals(actor=owner.principal, agent_id=session.agent_id) == {"up": 0, "down": 2}  # type: ignore[arg-type]
    with django_assert_num_queries(2):  # the session, and its messages
        counts(owner, session)
    assert owner.delete(path(session)).status_code == 204
    assert owner.delete(path(session)).status_code == 404
    assert counts(owner, session)[1] == {"up": 0, "down": 1, "mine": None}
    events = AuditEvent.objects.filter(action__startswith="feedback").order_by("id")
    assert [event.action for event in events] == ["feedback.give"] * 3 + ["feedback.withdraw"]
    assert events[1].before == {"rating": "up"}
    assert (events[1].after or {})["rating"] == "down"


def test_an_api_key_speaks_for_its_end_users(owner: Actor, session: ChatSession) -> None:
    for person in ("ada", "bob"):
        assert owner.put(path(session), {"rating": "up", "user_id": person}).json()["by"] == person
    assert counts(owner, session)[1] == {"up": 2, "down": 0, "mine": None}
    assert counts(owner, session, user_id="ada")[1]["mine"] == "up"
    assert owner.delete(f"{path(session)}?user_id=ada").status_code == 204
    assert counts(owner, session, user_id="ada")[1] == {"up": 1, "down": 0, "mine": None}


def test_who_and_what_is_refused(
    owner: Actor, viewer: Actor, stranger: Actor, session: ChatSession, in_acme: Tenant
) -> None:
    assert owner.put(path(session, 1), {"rating": "up"}).json()["error"]["code"] == "not_an_answer"
    assert viewer.put(path(session), {"rating": "up"}).status_code == 403
    assert stranger.put(path(session), {"rating": "up"}).status_code == 404
    elsewhere = talk(owner, user("x"), answer("y"))
    crossed = f"sessions/{elsewhere.id}/messages/{messages_of(session)[1].id}/feedback"
    assert owner.put(crossed, {"rating": "up"}).status_code == 404
    for body in ({}, {"rating": "meh"}, {"rating": "up", "comment": "x" * 2001}, {"rating": "up", "more": 1}):
        assert owner.put(path(session), body).status_code == 400
    assert not MessageFeedback.objects.exists()


def test_feedback_goes_with_its_session(owner: Actor, session: ChatSession) -> None:
    owner.put(path(session), {"rating": "up"})
    assert owner.delete(f"sessions/{session.id}").status_code == 204
    with tenant_context(owner.tenant.id):
        assert not MessageFeedback.objects.exists()
