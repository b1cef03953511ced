"""Sessions over REST."""

from typing import Any

import pytest

from audit.models import AuditEvent
from sessions_app.models import ChatSession, Message
from tenants.models import Tenant
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


def create(actor: Actor, **fields: Any) -> Any:
    return actor.post("sessions", fields)


def test_a_session_is_made_changed_and_deleted(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    body = create(owner, agent=scripted, external_id="order/7", user_id="u1", metadata={"shop": 1}).json()
    assert (body["agent"], body["external_id"], body["user_id"], body["messages"]) == (scripted, "order/7", "u1", 0)
    path = f"sessions/{body['id']}"
    changed = owner.patch(path, {"title": "Order 7", "status": "closed"}).json()
    assert (changed["title"], changed["status"]) == ("Order 7", "closed")
    event = AuditEvent.objects.get(action="session.update")
    assert (event.before, event.after) == (
        {"title": "", "status": "open"},
        {"title": "Order 7", "status": "closed"},
    )
    owner.patch(path, {"title": "Order 7"})
    assert AuditEvent.objects.filter(action="session.update").count() == 1
    assert owner.delete(path).status_code == 204
    assert owner.get(path).status_code == 404
    assert not ChatSession.objects.exists()
    assert AuditEvent.objects.filter(action="session.delete").exists()


def test_an_unknown_status_filters_nothing(owner: Actor) -> None:
    assert owner.get("sessions", status="open").status_code == 200
    refused = owner.get("sessions", status="opened")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "status")


def test_the_clients_own_id_finds_it(owner: Actor, viewer: Actor, stranger: Actor, scripted: str) -> None:
    assert create(owner, external_id="mine").status_code == 201
    assert owner.get("sessions/mine").json()["external_id"] == viewer.get("sessions/mine").json()["external_id"]
    for method in ("GET", "PATCH", "DELETE"):
        assert stranger.send(method, "sessions/mine", {} if method == "PATCH" else None).status_code == 404
    assert create(stranger, external_id="mine").status_code == 201
    clash = create(owner, external_id="mine")
    assert (clash.status_code, clash.json()["error"]["code"]) == (409, "session_exists")
    assert create(viewer).status_code == 403
    assert viewer.patch("sessions/mine", {"title": "x"}).status_code == 403
    assert viewer.delete("sessions/mine").status_code == 403


def test_a_closed_session_takes_no_turn(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    create(owner, agent=scripted, external_id="mine")
    owner.patch("sessions/mine", {"status": "closed"})
    body = {"model": scripted, "messages": [{"role": "user", "content": "x"}], "metadata": {"session_id": "mine"}}
    refused = owner.post("chat/completions", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_closed")
    assert not Message.objects.exists()


def test_lists_are_filtered_searched_and_paged(
    owner: Actor, stranger: Actor, scripted: str, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        create(owner, agent=scripted, external_id=f"s{number}", title=f"Trip {number}", user_id=f"u{number % 2}")
    create(owner, external_id="loose")
    with django_assert_num_queries(1):
        rows = owner.get("sessions", limit=2).json()
    assert [row["external_id"] for row in rows["data"]] == ["loose", "s2"]
    rest = owner.get("sessions", limit=2, cursor=rows["next_cursor"]).json()
    assert [row["external_id"] for row in rest["data"]] == ["s1", "s0"]
    assert rest["has_more"] is False

    def found(**query: Any) -> list[str]:
        return sorted(row["external_id"] for row in owner.get("sessions", **query).json()["data"])

    assert found(q="trip") == ["s0", "s1", "s2"]
    assert found(q="s1") == ["s1"]
    assert found(agent=scripted, user_id="u0") == ["s0", "s2"]
    assert found(status="closed") == []
    assert stranger.get("sessions").json()["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"agent": 7},
        {"external_id": ""},
        {"external_id": "x" * 129},
        {"metadata": []},
        {"title": "x" * 201},
        {"unknown": 1},
        "text",
    ],
)
def test_bad_input_writes_nothing(owner: Actor, in_acme: Tenant, body: Any) -> None:
    answer = owner.post("sessions", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert not ChatSession.objects.exists()


def test_an_unknown_agent(owner: Actor) -> None:
    assert create(owner, agent="nosuch").status_code == 404
