"""Sessions in the admin: where they come from, their files, and what people think of answers."""

import json
from typing import Any

import pytest
from django.test import Client

from core.tenant import tenant_context
from sessions_app.models import ChatSession, MessageFeedback
from tests.admin.conftest import page, post, text_of
from tests.conftest import Actor
from tests.sessions_app.talking import answer, messages_of, talk, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def session(owner: Actor, scripted: str) -> ChatSession:
    return talk(owner, user("Hello"), answer("Good <b>day</b>"), agent=scripted, title="Greetings")


def test_the_page_says_where_a_session_comes_from(
    olga: Client, vera: Client, stan: Client, owner: Actor, session: ChatSession
) -> None:
    fork = owner.post(f"sessions/{session.id}/fork", {"seq": 1}).json()["id"]
    content = text_of(page(olga, f"sessions_app/chatsession/{fork}/change/"))
    for part in (f"/t/acme/admin/sessions_app/chatsession/{session.id}/change/", "up to message 1", "a person"):
        assert part in content, part
    link = f"session/{session.id}"
    assert f"/t/acme/admin/{link}/json/" in text_of(page(olga, f"sessions_app/chatsession/{session.id}/change/"))
    found = json.loads(b"".join(page(olga, f"{link}/json/")))
    assert [message["content"] for message in found["messages"]] == ["Hello", "Good <b>day</b>"]
    assert b"# Greetings" in b"".join(page(olga, f"{link}/markdown/"))
    assert page(vera, f"{link}/markdown/").status_code == 404  # a viewer who takes no part in it
    assert page(olga, f"{link}/pdf/").status_code == 404
    assert page(stan, f"{link}/json/", tenant="globex").status_code == 404


def test_archived_sessions_can_be_picked(olga: Client, owner: Actor, session: ChatSession) -> None:
    talk(owner, user("Another"), title="Other talk")
    owner.patch(f"sessions/{session.id}", {"status": "archived"})
    listed = text_of(page(olga, "sessions_app/chatsession/", status__exact="archived"))
    assert "Greetings" in listed
    assert "Other talk" not in listed


def test_feedback_is_listed_and_leads_to_the_answer(
    olga: Client, vera: Client, stan: Client, owner: Actor, session: ChatSession, django_assert_max_num_queries: Any
) -> None:
    message = messages_of(session)[1]
    path = f"sessions/{session.id}/messages/{message.id}/feedback"
    for person, rating in (("ada", "up"), ("bob", "down")):
        owner.put(path, {"rating": rating, "comment": f"<i>{rating}</i>", "user_id": person})
    assert "bob" not in text_of(page(vera, "sessions_app/messagefeedback/"))  # who takes no part in the session
    listed = text_of(page(olga, "sessions_app/messagefeedback/"))
    for part in ("&lt;i&gt;up", "Good &lt;b&gt;day", "helper v1", "bob", f"{session.id}/change/?after=1"):
        assert part in listed, part
    down = text_of(page(olga, "sessions_app/messagefeedback/", rating__exact="down"))
    assert ("bob" in down, "ada" in down) == (True, False)
    assert "ada" not in text_of(page(olga, "sessions_app/messagefeedback/", agent="nobody"))
    with tenant_context(owner.tenant.id):
        given = MessageFeedback.objects.get(rating="up")
    shown = text_of(page(olga, f"sessions_app/messagefeedback/{given.id}/change/"))
    assert "1 good, 1 bad" in shown
    assert post(olga, f"sessions_app/messagefeedback/{given.id}/delete/", {"post": "yes"}).status_code == 403
    assert page(stan, f"sessions_app/messagefeedback/{given.id}/change/", tenant="globex").status_code == 302
    with django_assert_max_num_queries(20):
        page(olga, "sessions_app/messagefeedback/")
