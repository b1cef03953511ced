"""`GET /v1/sessions?mine=true`: what a person takes part in, the last active first."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from core.tenant import tenant_context
from sessions_app.models import ChatSession
from tenants.models import Tenant
from tests.admin.conftest import browser_of, make_member
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(acme: Tenant) -> Client:
    """An operator, who sees all sessions of acme."""
    return browser_of(make_member(acme, "ann", "operator"))


def mine(client: Client, **query: Any) -> Any:
    return client.get("/v1/sessions", {"mine": "true", **query}, headers={"X-Tenant": "acme"}).json()


def make(client: Client, title: str) -> str:
    body = {"title": title}
    made = client.post("/v1/sessions", body, content_type="application/json", headers={"X-Tenant": "acme"})
    return str(made.json()["id"])


def spoke(acme: Tenant, session: str, minutes_ago: int) -> None:
    with tenant_context(acme.id):
        at = timezone.now() - timedelta(minutes=minutes_ago)
        ChatSession.objects.filter(id=session).update(last_message_at=at)


def titles(page: Any) -> list[str]:
    return [session["title"] for session in page["data"]]


def test_the_last_active_come_first_page_by_page(ann: Client, acme: Tenant, owner: Actor) -> None:
    owner.post("sessions", {"title": "Not hers"})
    old, older, oldest = (make(ann, title) for title in ("old", "older", "oldest"))
    for minutes, session in ((1, oldest), (2, old), (2, older)):
        spoke(acme, session, minutes)
    make(ann, "new, and nothing said")
    seen, cursor = [], None
    while True:
        page = mine(ann, limit=1, **({"cursor": cursor} if cursor else {}))
        seen += titles(page)
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert seen[:2] == ["new, and nothing said", "oldest"]
    assert sorted(seen[2:]) == ["old", "older"]


def test_other_filters_hold_as_well(ann: Client) -> None:
    archived = make(ann, "Put away")
    make(ann, "Kept")
    ann.patch(
        f"/v1/sessions/{archived}",
        {"status": "archived"},
        content_type="application/json",
        headers={"X-Tenant": "acme"},
    )
    assert titles(mine(ann)) == ["Kept"]
    assert titles(mine(ann, status="archived")) == ["Put away"]
    assert titles(mine(ann, q="ke")) == ["Kept"]


def test_an_api_key_takes_part_in_none(owner: Actor) -> None:
    owner.post("sessions", {"title": "Its own"})
    assert owner.get("sessions", mine="true").json()["data"] == []
    assert len(owner.get("sessions", mine="false").json()["data"]) == 1


def test_what_is_neither_yes_nor_no_is_refused(owner: Actor) -> None:
    answer = owner.get("sessions", mine="1")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mine")


def test_a_foreign_cursor_is_refused(ann: Client) -> None:
    assert mine(ann, cursor="bm9uc2Vuc2U")["error"]["param"] == "cursor"


def test_it_takes_as_many_queries_for_many_as_for_one(ann: Client, django_assert_num_queries: Any) -> None:
    make(ann, "one")
    with CaptureQueriesContext(connection) as counted:
        mine(ann)
        expected = len(counted)
    for number in range(5):
        make(ann, str(number))
    with django_assert_num_queries(expected):
        assert len(mine(ann)["data"]) == 6
