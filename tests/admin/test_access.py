"""Members, API keys and the audit trail in the pages."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import AuditEvent
from core.tenant import tenant_context
from tenants.models import ApiKey, Membership, Tenant
from tests.admin.conftest import PASSWORD, browser_of, make_member, page, post, text_of

KEY = {"name": "Website", "role": "member", "scopes": ["chat"], "expires_at_0": "", "expires_at_1": ""}
TOKEN = re.compile(r"ask_[a-z0-9]+_[A-Za-z0-9_-]+")


@pytest.fixture
def key(olga: Client, acme: Tenant) -> ApiKey:
    assert post(olga, "tenants/apikey/add/", KEY).status_code == 200
    with tenant_context(acme.id):
        return ApiKey.objects.get(name="Website")


def me(token: str) -> int:
    return Client(headers={"Authorization": f"Bearer {token}"}).get("/v1/me").status_code


def test_a_new_key_is_shown_once(olga: Client, acme: Tenant) -> None:
    response = post(olga, "tenants/apikey/add/", KEY)
    token = TOKEN.search(text_of(response)).group()  # type: ignore[union-attr]
    assert "no-store" in response["Cache-Control"]
    assert me(token) == 200
    for path in ("tenants/apikey/", "audit/auditevent/", ""):
        assert token not in text_of(page(olga, path))


def test_rotation_shows_the_successor_once_in_the_dialog(olga: Client, key: ApiKey, acme: Tenant) -> None:
    path = f"tenants/apikey/{key.id}/rotate/"
    assert "Rotate this key" in text_of(page(olga, path))
    with tenant_context(acme.id):
        assert ApiKey.objects.count() == 1
    response = post(olga, path, {"_form_submitted": "on", "overlap_seconds": "0"})
    token = TOKEN.search(text_of(response)).group()  # type: ignore[union-attr]
    assert me(token) == 200
    assert response["HX-Retarget"] == "#modal-content"
    with tenant_context(acme.id):
        assert ApiKey.objects.count() == 2


def test_revoking_ends_a_key(olga: Client, acme: Tenant) -> None:
    token = TOKEN.search(text_of(post(olga, "tenants/apikey/add/", KEY))).group()  # type: ignore[union-attr]
    with tenant_context(acme.id):
        key = ApiKey.objects.get(name="Website")
    path = f"tenants/apikey/{key.id}/revoke/"
    assert page(olga, path).status_code == 200
    assert me(token) == 200
    assert "HX-Redirect" in post(olga, path, {"_form_submitted": "on"})
    assert "revoked" in text_of(page(olga, "tenants/apikey/"))
    with tenant_context(acme.id):
        assert ApiKey.objects.get(id=key.id).revoked_at is not None
    refused = post(olga, f"tenants/apikey/{key.id}/rotate/", {"_form_submitted": "on", "overlap_seconds": "0"})
    assert "HX-Redirect" in refused
    assert "The API key was revoked." in text_of(page(olga, f"tenants/apikey/{key.id}/change/"))


def test_the_page_of_a_key_shows_facts_and_what_can_still_be_done(olga: Client, key: ApiKey, acme: Tenant) -> None:
    path = f"tenants/apikey/{key.id}/change/"
    content = text_of(page(olga, path))
    for part in (f"ask_{key.prefix}_…", "never", "olga", f"apikey/{key.id}/rotate/", f"apikey/{key.id}/revoke/"):
        assert part in content, part
    assert 'name="scopes"' not in content
    gone = {"expires_at": timezone.now() - timedelta(hours=1)}, {"revoked_at": timezone.now()}
    for state, values in zip(("expired", "revoked"), gone, strict=True):
        with tenant_context(acme.id):
            ApiKey.objects.filter(id=key.id).update(**values)
        content = text_of(page(olga, path))
        assert state in content
        assert "/rotate/" not in content
        assert "/revoke/" not in content


def test_a_key_is_never_edited(olga: Client, key: ApiKey) -> None:
    assert post(olga, f"tenants/apikey/{key.id}/change/", KEY).status_code == 403
    assert post(olga, f"tenants/apikey/{key.id}/delete/", {"post": "yes"}).status_code == 403


def test_an_expiry_in_the_past_is_refused(olga: Client) -> None:
    response = post(olga, "tenants/apikey/add/", {**KEY, "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"})
    assert "This time has passed." in text_of(response)


def test_a_strangers_key_is_out_of_reach(stan: Client, key: ApiKey, acme: Tenant) -> None:
    for action, data in (("revoke", {}), ("rotate", {"overlap_seconds": "0"})):
        path = f"tenants/apikey/{key.id}/{action}/"
        response = post(stan, path, {"_form_submitted": "on", **data}, tenant="globex")
        assert not TOKEN.search(text_of(response))
    with tenant_context(acme.id):
        assert ApiKey.objects.get().revoked_at is None


def add_member(client: Client, **values: Any) -> Any:
    form = {"username": "newt", "email": "newt@example.com", "password": PASSWORD, "role": "operator", **values}
    return post(client, "tenants/membership/add/", form)


def test_members_are_added_changed_and_removed(olga: Client, acme: Tenant) -> None:
    weak = text_of(add_member(olga, password="short"))
    assert re.search(r'<input type="password"[^>]*aria-invalid="true"', weak)
    assert "at least 10 characters" in weak
    assert add_member(olga).status_code == 302
    with tenant_context(acme.id):
        member = Membership.objects.get(user__username="newt")
    path = f"tenants/membership/{member.id}"
    assert post(olga, f"{path}/change/", {"role": "viewer", "status": "active"}).status_code == 302
    with tenant_context(acme.id):
        assert Membership.objects.get(id=member.id).role == "viewer"
    assert "is a member already" in text_of(add_member(olga))
    assert post(olga, f"{path}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not Membership.objects.filter(id=member.id).exists()
        actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"member.add", "member.update", "member.remove"} <= actions


def test_the_last_owner_stays(olga: Client, acme: Tenant) -> None:
    with tenant_context(acme.id):
        member = Membership.objects.get(user__username="olga")
    response = post(olga, f"tenants/membership/{member.id}/change/", {"role": "viewer", "status": "active"})
    assert "needs an active owner" in text_of(response)
    gone = post(olga, f"tenants/membership/{member.id}/delete/", {"post": "yes"})
    assert "needs an active owner" in text_of(olga.get(gone["Location"]))
    with tenant_context(acme.id):
        assert Membership.objects.get(id=member.id).role == "owner"


def test_nobody_hands_out_a_higher_role(olga: Client, acme: Tenant) -> None:
    admin = browser_of(make_member(acme, "adam", "admin"))
    assert 'value="owner"' not in text_of(page(admin, "tenants/membership/add/"))
    assert add_member(admin, role="owner").status_code == 200
    with tenant_context(acme.id):
        assert not Membership.objects.filter(user__username="newt").exists()


def test_an_audit_event_shows_what_changed(olga: Client, acme: Tenant) -> None:
    add_member(olga)
    with tenant_context(acme.id):
        member = Membership.objects.get(user__username="newt")
    post(olga, f"tenants/membership/{member.id}/change/", {"role": "viewer", "status": "suspended"})
    with tenant_context(acme.id):
        event = AuditEvent.objects.get(action="member.update")
    assert "member.update" in text_of(page(olga, "audit/auditevent/", action="member.upd"))
    assert "member.update" not in text_of(page(olga, "audit/auditevent/", action="agent."))
    content = text_of(page(olga, f"audit/auditevent/{event.id}/change/"))
    assert "<del>operator</del>" in content
    assert "<ins>viewer</ins>" in content
    assert page(olga, "audit/auditevent/", q=str(member.id)).context_data["cl"].result_count == 2


def test_the_trail_is_read_only(olga: Client, acme: Tenant) -> None:
    with tenant_context(acme.id):
        event = AuditEvent.objects.first()
    assert event is not None
    path = f"audit/auditevent/{event.id}"
    assert post(olga, f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert page(olga, "audit/auditevent/add/").status_code == 403
    post(olga, f"{path}/change/", {"action": "forged"})
    with tenant_context(acme.id):
        assert not AuditEvent.objects.filter(action="forged").exists()
