"""Publishable keys in the pages."""

from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.tenant import tenant_context
from tenants.models import PublishableKey, Tenant
from tests.admin.conftest import page, post, text_of

PATH = "tenants/publishablekey"
KEY = {
    "name": "Shop",
    "agent": "helper",
    "origins": "https://shop.example\r\nhttp://localhost:3000",
    "visitors_per_minute": "30",
    "messages_per_minute": "20",
}


@pytest.fixture
def key(olga: Client, acme: Tenant, scripted: str) -> PublishableKey:
    assert post(olga, f"{PATH}/add/", KEY).status_code == 302
    with tenant_context(acme.id):
        return PublishableKey.objects.get()


def actions(acme: Tenant) -> list[str]:
    with tenant_context(acme.id):
        events = AuditEvent.objects.filter(action__startswith="publishable_key.").order_by("id")
        return [event.action.partition(".")[2] for event in events]


def test_a_new_key_shows_the_tag_to_copy(olga: Client, acme: Tenant, scripted: str) -> None:
    answer = post(olga, f"{PATH}/add/", KEY)
    with tenant_context(acme.id):
        key = PublishableKey.objects.get()
    assert answer["Location"].endswith(f"{PATH}/{key.id}/change/")
    assert (key.origins, key.agent, key.created_by) == (
        ["https://shop.example", "http://localhost:3000"],
        scripted,
        "olga",
    )
    shown = text_of(page(olga, f"{PATH}/{key.id}/change/"))
    assert (
        "&lt;script type=&quot;module&quot; src=&quot;http://127.0.0.1:8000/static/chat/agent-chat.js&quot;&gt;"
        in shown
    )
    assert f"&lt;agent-chat key=&quot;{key.token}&quot;&gt;&lt;/agent-chat&gt;" in shown
    assert "Shop" in text_of(page(olga, f"{PATH}/"))
    assert actions(acme) == ["create"]


def test_faults_are_shown_at_their_fields(olga: Client, acme: Tenant, scripted: str) -> None:
    answer = post(olga, f"{PATH}/add/", {**KEY, "origins": "https://shop.example/page", "messages_per_minute": "0"})
    assert answer.status_code == 200
    assert "greater than or equal to 1" in text_of(answer)
    assert "no path" in text_of(post(olga, f"{PATH}/add/", {**KEY, "origins": "https://shop.example/page"}))
    with tenant_context(acme.id):
        assert not PublishableKey.objects.exists()


def test_a_key_is_changed_and_revoked(olga: Client, acme: Tenant, key: PublishableKey) -> None:
    path = f"{PATH}/{key.id}/change/"
    assert post(olga, path, {**KEY, "origins": "https://new.example"}).status_code == 302
    answer: Any = olga.post(f"/t/acme/admin/{PATH}/{key.id}/revoke/", {"_form_submitted": "on"})
    assert answer.status_code == 204
    with tenant_context(acme.id):
        key.refresh_from_db()
    assert (key.origins, key.revoked_at is not None) == (["https://new.example"], True)
    assert "refused everywhere" in text_of(page(olga, path))
    assert post(olga, path, KEY).status_code == 403
    assert actions(acme) == ["create", "update", "revoke"]


def test_viewers_and_strangers_see_none(vera: Client, stan: Client, key: PublishableKey) -> None:
    for path in (f"{PATH}/", f"{PATH}/add/", f"{PATH}/{key.id}/change/"):
        assert page(vera, path).status_code == 403
    assert "Shop" not in text_of(page(stan, f"{PATH}/", tenant="globex"))
    assert page(stan, f"{PATH}/{key.id}/change/", tenant="globex").status_code == 302
