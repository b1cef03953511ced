"""Sessions as files, over REST."""

import json
import tracemalloc
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from core.ids import uuid7
from sessions_app.api.export import PAGE, fenced, kept_apart
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.sessions_app.talking import answer, messages_of, talk, user, with_tool

pytestmark = pytest.mark.django_db


def export(actor: Actor, session: ChatSession, **query: Any) -> Any:
    return actor.get(f"sessions/{session.id}/export", **query)


def body(response: Any) -> str:
    assert response.status_code == 200, response.content
    return b"".join(response).decode()


def test_json_has_everything(owner: Actor, viewer: Actor, scripted: str, in_acme: Tenant) -> None:
    session = talk(owner, *with_tool(), agent=scripted, title='Times "\r\n/../ of Ünal')
    session.participants.create(tenant=in_acme, person_kind="user", person_id=uuid7(), label="Ann", role="owner")
    response = export(viewer, session)
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"] == f'attachment; filename="times-of-unal-{str(session.id)[-8:]}.json"'
    found = json.loads(body(response))
    assert found["session"]["title"] == 'Times "\r\n/../ of Ünal'
    assert [(each["label"], each["role"]) for each in found["participants"]] == [("Ann", "owner")]
    listed = owner.get(f"sessions/{session.id}/messages").json()["data"]
    assert found["messages"] == listed
    assert found["messages"][1]["tool_calls"][0]["function"]["name"] == "now"
    assert found["messages"][1]["run_id"]


def test_replaced_messages_come_when_asked_for(owner: Actor, in_acme: Tenant) -> None:
    session = talk(owner, user("one"), user("two"))
    Message.objects.filter(session=session, seq=1).update(replaced_by=uuid7())
    assert [each["content"] for each in json.loads(body(export(owner, session)))["messages"]] == ["two"]
    everything = json.loads(body(export(owner, session, replaced="true")))
    assert [each["content"] for each in everything["messages"]] == ["one", "two"]
    assert "replaced" in body(export(owner, session, replaced="true", format="markdown"))


def test_an_empty_session(owner: Actor) -> None:
    session = talk(owner)
    assert json.loads(body(export(owner, session)))["messages"] == []
    assert body(export(owner, session, format="markdown")).startswith(f"# {session.id}\n")


def test_markdown_can_be_read(owner: Actor, scripted: str) -> None:
    session = talk(owner, *with_tool(), agent=scripted, title="About *stars*")
    response = export(owner, session, format="markdown")
    assert response["Content-Type"] == "text/markdown; charset=utf-8"
    text = body(response)
    assert text.startswith("# About \\*stars\\*\n")
    assert "**Assistant** · helper v1 ·" in text
    assert 'Calls `now`:\n\n````\n{"zone": "```"}\n````' in text
    assert "`````\nAt noon. ````\n`````" in text


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("a\n```python\nb", "a\n```python\nb\n```"),
        ("```\na\n```\nb", "```\na\n```\nb"),
        ("~~~~\n```\na", "~~~~\n```\na\n~~~~"),
        ("````\n```\na", "````\n```\na\n````"),
        ("<script>alert(1)\n</script>", "\\<script>alert(1)\n\\</script>"),
        ("  <!-- a", "  \\<!-- a"),
        ("```\n<b>\n```", "```\n<b>\n```"),
        ("1 < 2", "1 < 2"),
    ],
)
def test_a_message_ends_where_it_ends(said: str, written: str) -> None:
    assert kept_apart(said) == written


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a `````` b").splitlines()[0] == "```````"


def test_who_and_what_is_refused(owner: Actor, stranger: Actor) -> None:
    session = talk(owner, user("x"))
    assert export(stranger, session).status_code == 404
    assert export(owner, session, format="pdf").json()["error"]["param"] == "format"
    assert export(owner, session, replaced="yes").json()["error"]["param"] == "replaced"


def test_a_long_session_does_not_fill_the_memory(owner: Actor, django_assert_num_queries: Any) -> None:
    session = talk(owner, *[answer("word " * 2000) for _ in range(10 * PAGE)])
    export(owner, session)  # which looks the key up
    with django_assert_num_queries(1 + 1 + 10 + 1):  # the session, its participants, pages, and the end
        response = export(owner, session)
        tracemalloc.start()
        most = []
        for _ in response:
            most.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
        tracemalloc.stop()
    print(most)
    assert max(most) < 3 * most[2], most


async def test_it_is_sent_piece_by_piece(owner: Actor) -> None:
    session = await sync_to_async(talk)(owner, user("one"), answer("two"))
    response = await owner.aget(f"sessions/{session.id}/export")
    pieces = [piece async for piece in response]
    assert [each["content"] for each in json.loads(b"".join(pieces))["messages"]] == ["one", "two"]


def test_an_archived_session_is_kept_and_takes_nothing(owner: Actor, scripted: str) -> None:
    session = talk(owner, user("one"), agent=scripted)
    other = talk(owner, user("two"))
    owner.patch(f"sessions/{session.id}", {"status": "archived"})
    listed = [row["id"] for row in owner.get("sessions").json()["data"]]
    assert listed == [str(other.id)]
    assert [row["id"] for row in owner.get("sessions", status="archived").json()["data"]] == [str(session.id)]
    request = {"model": scripted, "messages": [user("x")], "metadata": {"session_id": str(session.id)}}
    refused = owner.post("chat/completions", request)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_archived")
    assert len(messages_of(session)) == 1
    assert owner.get(f"sessions/{session.id}").json()["status"] == "archived"
    assert body(export(owner, session))
    owner.patch(f"sessions/{session.id}", {"status": "open"})
    assert owner.post("chat/completions", request).status_code == 200
