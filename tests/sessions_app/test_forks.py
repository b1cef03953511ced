"""Forks over REST."""

from typing import Any

import pytest

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.sessions_app.talking import messages_of, talk, user, with_tool

pytestmark = pytest.mark.django_db


@pytest.fixture
def source(owner: Actor, scripted: str) -> ChatSession:
    return talk(owner, *with_tool(), agent=scripted, title="Times")


def fork(actor: Actor, session: ChatSession, **body: Any) -> Any:
    return actor.post(f"sessions/{session.id}/fork", body)


def test_a_fork_has_what_was_said_until_there(owner: Actor, source: ChatSession, in_acme: Tenant) -> None:
    chosen = messages_of(source)[4]
    Message.objects.filter(id=chosen.id).update(author_kind="user", author="Ann", client_id="m-1")
    answer = fork(owner, source, message_id=str(chosen.id))
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["agent"], body["title"], body["messages"], body["forked_seq"]) == ("helper", "Times", 5, 5)
    assert (body["forked_from"], body["created_by"]) == (str(source.id), owner.principal.label)
    copies = list(Message.objects.filter(session_id=body["id"]).order_by("seq"))
    for copy, original in zip(copies, messages_of(source), strict=False):
        for name in ("seq", "role", "content", "tool_calls", "tool_call_id", "created_at", "author", "client_id"):
            assert getattr(copy, name) == getattr(original, name), name
        assert (copy.run_id, copy.agent_version_id) == (None, original.agent_version_id)
    ids = [copy.id for copy in copies]
    assert ids == sorted(ids)
    assert {id.version for id in ids} == {7}
    after = AuditEvent.objects.get(action="session.fork").after
    assert after == {"forked_from": str(source.id), "forked_seq": 5, "messages": 5}
    said = owner.post(
        "chat/completions", {"model": "helper", "messages": [user("And?")], "metadata": {"session_id": body["id"]}}
    )
    assert said.status_code == 200, said.content
    assert len(messages_of(source)) == 6


@pytest.mark.parametrize(("seq", "last"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (6, 6), (None, 6)])
def test_nothing_comes_between_a_call_and_its_results(
    owner: Actor, source: ChatSession, seq: int | None, last: int
) -> None:
    body = fork(owner, source, **({"seq": seq} if seq else {})).json()
    assert (body["forked_seq"], body["messages"]) == (last, last)


def test_what_was_replaced_is_not_taken_along(owner: Actor, source: ChatSession, in_acme: Tenant) -> None:
    Message.objects.filter(session=source, seq=6).update(replaced_by=uuid7())
    Message.objects.create(tenant=in_acme, session=source, seq=7, role="user", content="No, thanks")
    ChatSession.objects.filter(id=source.id).update(last_seq=7)
    body = fork(owner, source).json()
    assert (body["messages"], body["forked_seq"]) == (6, 7)
    assert Message.objects.get(session_id=body["id"], seq=6).content == "No, thanks"
    missing = fork(owner, source, seq=6)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "message_not_found")


def test_who_may_not_fork(owner: Actor, viewer: Actor, stranger: Actor, source: ChatSession, in_acme: Tenant) -> None:
    assert fork(viewer, source).status_code == 403
    assert fork(stranger, source).status_code == 404
    assert fork(owner, source, message_id="x").status_code == 404
    assert fork(owner, source, seq=1, message_id="x").status_code == 400
    assert fork(owner, source, seq=0).status_code == 400
    with tenant_context(stranger.tenant.id):
        assert not ChatSession.objects.filter(tenant_id=stranger.tenant.id).exists()
    assert ChatSession.objects.filter(tenant_id=in_acme.id).count() == 1


def test_a_fork_has_a_limit(owner: Actor, source: ChatSession, settings: Any, in_acme: Tenant) -> None:
    settings.SESSION_FORK_MESSAGES = 5
    assert fork(owner, source, seq=5).status_code == 201
    refused = fork(owner, source)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_too_long")
    assert "SESSION_FORK_MESSAGES" in refused.json()["error"]["message"]
    assert ChatSession.objects.filter(tenant_id=in_acme.id).count() == 2


def test_a_long_session_is_copied_in_order(owner: Actor) -> None:
    source = talk(owner, *[user(f"m{number}") for number in range(9000)])
    body = fork(owner, source).json()
    with tenant_context(owner.tenant.id):
        copies = Message.objects.filter(session_id=body["id"]).order_by("id")
        assert [copy.content for copy in copies] == [f"m{number}" for number in range(9000)]
