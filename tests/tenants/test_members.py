"""Members over REST, browser sign-in, and suspension."""

from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.tenant import tenant_context
from tenants.models import Membership, Tenant, User
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def add(actor: Actor, username: str = "ann", role: str = "operator", **fields: Any) -> Any:
    return actor.post("members", {"username": username, "role": role, "password": PASSWORD, **fields})


def browser(username: str = "ann", tenant: str = "acme", **options: Any) -> Client:
    client = Client(headers={"X-Tenant": tenant}, raise_request_exception=False, **options)
    assert client.login(username=username, password=PASSWORD)
    return client


def test_a_member_signs_in_and_has_the_role(owner: Actor, in_acme: Tenant) -> None:
    response = add(owner)
    assert response.status_code == 201
    assert PASSWORD not in response.content.decode()
    assert AuditEvent.objects.get(action="member.add").after == {"username": "ann", "role": "operator"}
    body = browser().get("/v1/me").json()
    assert body["principal"] == {"kind": "user", "id": str(User.objects.get().id), "label": "ann"}
    assert (body["role"], body["tenant"]["slug"]) == ("operator", "acme")


def test_a_browser_names_its_tenant(owner: Actor, stranger: Actor) -> None:
    add(owner)
    client = browser()
    assert client.get("/v1/me", headers={"X-Tenant": ""}).json()["error"]["param"] == "X-Tenant"
    for foreign in ("globex", "nosuch"):
        answer = client.get("/v1/me", headers={"X-Tenant": foreign})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_a_member")


def test_a_browser_write_needs_the_csrf_token(owner: Actor) -> None:
    add(owner, role="owner")
    client = browser(enforce_csrf_checks=True)
    refused = client.post("/v1/ws-tickets")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
    client.cookies["csrftoken"] = "a" * 32
    assert client.post("/v1/ws-tickets", headers={"X-CSRFToken": "a" * 32}).status_code == 201


def test_suspended_people_are_refused_everywhere(owner: Actor, in_acme: Tenant) -> None:
    member = add(owner).json()["id"]
    client = browser()
    owner.patch(f"members/{member}", {"status": "suspended"})
    assert client.get("/v1/me").json()["error"]["code"] == "membership_suspended"
    owner.patch(f"members/{member}", {"status": "active"})
    assert client.get("/v1/me").status_code == 200
    User.objects.filter(username="ann").update(is_active=False)
    assert client.get("/v1/me").status_code == 401


def test_an_existing_person_keeps_their_password(owner: Actor, stranger: Actor) -> None:
    add(owner)
    assert add(stranger, password="quite another one").status_code == 201
    assert browser(tenant="globex").get("/v1/me").json()["tenant"]["slug"] == "globex"


def test_roles(owner: Actor, viewer: Actor, stranger: Actor, acme: Tenant) -> None:
    member = add(owner).json()["id"]
    assert viewer.get("members").status_code == 200
    assert add(viewer, "bob").status_code == 403
    assert viewer.patch(f"members/{member}", {"role": "viewer"}).status_code == 403
    assert stranger.get(f"members/{member}").status_code == 404
    assert stranger.delete(f"members/{member}").status_code == 404
    admin = make_actor(acme, "admin")
    assert admin.patch(f"members/{member}", {"role": "owner"}).status_code == 403
    assert admin.delete(f"members/{add(owner, 'boss', 'owner').json()['id']}").status_code == 403
    assert stranger.get("members").json()["data"] == []


def test_the_last_owner_stays(owner: Actor, in_acme: Tenant) -> None:
    boss = add(owner, "boss", "owner").json()["id"]
    for answer in (
        owner.delete(f"members/{boss}"),
        owner.patch(f"members/{boss}", {"role": "admin"}),
        owner.patch(f"members/{boss}", {"status": "suspended"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "last_owner")
    assert Membership.objects.get(id=boss).role == "owner"
    add(owner, "heir", "owner")
    assert owner.delete(f"members/{boss}").status_code == 204


def test_refused_input(owner: Actor, in_acme: Tenant) -> None:
    assert add(owner, password="short").json()["error"]["code"] == "invalid_user"
    assert add(owner, "no spaces please").json()["error"]["code"] == "invalid_user"
    assert add(owner).status_code == 201
    assert add(owner).json()["error"]["code"] == "already_member"
    with tenant_context(in_acme.id):
        assert Membership.objects.count() == 1
