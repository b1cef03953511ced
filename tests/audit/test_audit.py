"""The audit trail: written with the change, readable by its tenant's operators, filtered."""

from typing import Any

import pytest
from django.db import transaction

from audit.models import AuditEvent
from core import audit
from tenants.models import Tenant
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db


def test_events_are_listed_for_operators(owner: Actor, viewer: Actor, stranger: Actor, acme: Tenant) -> None:
    session = owner.post("sessions", {"title": "x"})
    rows = owner.get("audit", action="session.").json()["data"]
    assert [(row["action"], row["actor_label"], row["request_id"]) for row in rows] == [
        ("session.create", "owner of acme", session.headers["X-Request-Id"])
    ]
    assert rows[0]["ip"] == "127.0.0.1"
    by_object = owner.get("audit", object_type="session", object_id=session.json()["id"]).json()["data"]
    assert by_object == rows
    assert make_actor(acme, "operator").get("audit").status_code == 200
    assert viewer.get("audit").status_code == 403
    assert all(row["object_label"] != "x" for row in stranger.get("audit").json()["data"])


def test_the_list_takes_one_query(owner: Actor, django_assert_num_queries: Any) -> None:
    for number in range(3):
        owner.post("sessions", {"title": str(number)})
    with django_assert_num_queries(1):
        assert len(owner.get("audit", limit=2).json()["data"]) == 2


def test_a_failed_change_leaves_no_event(owner: Actor, in_acme: Tenant) -> None:
    with pytest.raises(ValueError, match="later"), transaction.atomic():
        audit.record(actor=owner.principal, action="thing.create", target=in_acme)
        raise ValueError("later")
    assert not AuditEvent.objects.filter(action="thing.create").exists()
