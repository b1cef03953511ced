"""The credentials of persons in the pages."""

from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.tenant import tenant_context
from tenants.models import Membership, Tenant
from tests.admin.conftest import page, post, text_of
from toolsets.models import Toolset, ToolsetCredential

FORM = {
    "name": "Tickets",
    "slug": "tickets",
    "kind": "mcp",
    "enabled": "on",
    "config-of": "mcp",
    "config-url": "https://mcp.example.com/mcp",
    "config-auth": '"bearer"',
    "config-credentials": '"personal"',
    "config-timeout": "60",
    "config-max_answer_kb": "1000",
    "policy_approval": "default",
}
LIST = "toolsets/toolsetcredential/"
SECRET = "s3cr3t-of-olga"


@pytest.fixture
def credential(olga: Client, acme: Tenant) -> ToolsetCredential:
    """Olga's, for a toolset that she made in the pages."""
    added = post(olga, "toolsets/toolset/add/", FORM)
    assert added.status_code == 302, text_of(added)
    url = "/v1/toolsets/tickets/credentials"
    stored = olga.put(
        url, {"secrets": {"token": SECRET}}, content_type="application/json", headers={"X-Tenant": "acme"}
    )
    assert stored.status_code == 200, stored.content
    with tenant_context(acme.id):
        return ToolsetCredential.objects.get()


def left(acme: Tenant) -> int:
    with tenant_context(acme.id):
        return ToolsetCredential.objects.count()


def test_who_stored_some_is_shown_and_what_is_not(
    olga: Client, vera: Client, stan: Client, credential: ToolsetCredential
) -> None:
    for client in (olga, vera):
        for path in (LIST, f"{LIST}{credential.id}/change/"):
            shown = text_of(page(client, path))
            assert "olga" in shown
            assert "Tickets" in shown
            assert SECRET not in shown
    assert page(stan, LIST).status_code in (403, 404)
    assert str(credential.person) not in text_of(page(stan, LIST, tenant="globex"))
    assert page(stan, f"{LIST}{credential.id}/change/", tenant="globex").status_code == 302
    assert "Delete these credentials" not in text_of(page(vera, f"{LIST}{credential.id}/change/"))


def test_only_an_operator_deletes_them(
    olga: Client, vera: Client, stan: Client, acme: Tenant, credential: ToolsetCredential
) -> None:
    path = f"{LIST}{credential.id}/delete/"
    assert post(vera, path, {"post": "yes"}).status_code == 403
    assert post(stan, path, {"post": "yes"}, tenant="globex").status_code == 302
    assert page(olga, f"{LIST}add/").status_code == 403
    assert left(acme) == 1
    assert SECRET not in text_of(page(olga, path))
    assert post(olga, path, {"post": "yes"}).status_code == 302
    assert left(acme) == 0
    with tenant_context(acme.id):
        event = AuditEvent.objects.filter(action="toolset.credential.delete").get()
    assert (event.object_label, event.before["person"]) == ("Tickets", credential.person)


def test_they_go_with_the_membership(olga: Client, acme: Tenant, credential: ToolsetCredential) -> None:
    with tenant_context(acme.id):
        user_id = Membership.objects.get(id=credential.member_id).user_id
        Membership.objects.filter(user_id=user_id).delete()
    assert left(acme) == 0


def test_the_list_costs_the_same_for_many(
    olga: Client, acme: Tenant, credential: ToolsetCredential, django_assert_max_num_queries: Any
) -> None:
    with tenant_context(acme.id):
        toolset = Toolset.objects.get()
        for number in range(20):
            ToolsetCredential.objects.create(tenant=acme, toolset=toolset, person=f"end_user:{number}")
    with django_assert_max_num_queries(12):
        assert page(olga, LIST).status_code == 200
