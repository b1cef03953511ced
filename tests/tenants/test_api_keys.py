"""API keys over REST, and what a key may do."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from audit.models import AuditEvent
from core.errors import NotAuthenticated
from core.tenant import tenant_context
from tenants import authentication
from tenants.authentication import authenticate_api_key
from tenants.models import ApiKey, Tenant
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def create(actor: Actor, **fields: Any) -> Any:
    return actor.post("api-keys", {"name": "ci", "role": "member", **fields})


def test_a_key_is_shown_once_and_works(owner: Actor, acme: Tenant, in_acme: Tenant) -> None:
    response = create(owner, scopes=["read"])
    assert response.status_code == 201
    body = response.json()
    key = ApiKey.objects.get(id=body["id"])
    assert body["token"].startswith(f"ask_{key.prefix}_")
    assert body["token"].split("_", 2)[2] not in str(ApiKey.objects.values().get(id=key.id))
    assert len(key.secret_hash) == 32
    assert "token" not in owner.get(f"api-keys/{key.id}").json()
    principal = authenticate_api_key(body["token"])
    assert (principal.tenant_id, principal.role, principal.scopes) == (acme.id, "member", {"read"})
    event = AuditEvent.objects.get(action="api_key.create", object_id=str(key.id))
    assert event.after["prefix"] == key.prefix
    assert body["token"] not in str(AuditEvent.objects.values().get(id=event.id))
    assert event.request_id == response.headers["X-Request-Id"]


def test_only_admins_and_their_own_tenant(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    key = create(owner).json()["id"]
    assert error(create(viewer)) == (403, "role_too_low")
    assert viewer.get("api-keys").status_code == 403
    for method, path in (("GET", f"api-keys/{key}"), ("DELETE", f"api-keys/{key}"), ("POST", f"api-keys/{key}/rotate")):
        assert error(stranger.send(method, path, {} if method == "POST" else None)) == (404, "not_found")
    assert [row["name"] for row in stranger.get("api-keys").json()["data"]] == ["owner of globex"]


def test_a_key_cannot_make_a_stronger_key(acme: Tenant) -> None:
    admin = make_actor(acme, "admin")
    assert error(create(admin, role="owner")) == (403, "role_too_low")
    scoped = make_actor(acme, "admin", scopes=["admin"])
    assert error(create(scoped)) == (403, "scope_missing")
    assert error(create(scoped, scopes=["chat"])) == (403, "scope_missing")
    assert create(scoped, scopes=["admin"]).status_code == 201


def test_scopes_limit_a_key(acme: Tenant) -> None:
    reader = make_actor(acme, "owner", scopes=["read"])
    assert reader.get("members").status_code == 200
    assert error(reader.post("members", {"username": "x", "role": "viewer"})) == (403, "scope_missing")


def test_a_scope_covers_what_its_work_reads(acme: Tenant) -> None:
    admin = make_actor(acme, "owner", scopes=["admin"])
    assert admin.get("providers").status_code == admin.get("api-keys").status_code == 200
    writer = make_actor(acme, "owner", scopes=["write"])
    assert writer.get("agents").status_code == 200
    assert error(writer.get("api-keys")) == (403, "scope_missing")
    chatter = make_actor(acme, "owner", scopes=["chat"])
    assert chatter.get("sessions").status_code == 200
    assert error(chatter.get("providers")) == (403, "scope_missing")


def test_rotation_overlaps(owner: Actor, in_acme: Tenant) -> None:
    old = create(owner).json()
    new = owner.post(f"api-keys/{old['id']}/rotate", {"overlap_seconds": 60}).json()
    assert authenticate_api_key(old["token"]).role == authenticate_api_key(new["token"]).role == "member"
    row = ApiKey.objects.get(id=old["id"])
    assert row.expires_at is not None
    assert timedelta(0) < row.expires_at - timezone.now() <= timedelta(seconds=60)
    ApiKey.objects.filter(id=row.id).update(expires_at=timezone.now())
    authentication._cache.clear()
    with pytest.raises(NotAuthenticated, match="expired"):
        authenticate_api_key(old["token"])
    assert authenticate_api_key(new["token"])


def test_a_key_makes_none_that_outlives_it(acme: Tenant) -> None:
    end = timezone.now() + timedelta(hours=1)
    brief = make_actor(acme, "owner", expires_at=end)
    lasting = create(make_actor(acme, "owner")).json()
    for later in (None, (end + timedelta(hours=1)).isoformat()):
        assert error(create(brief, expires_at=later)) == (403, "expires_too_late")
    assert error(brief.post(f"api-keys/{lasting['id']}/rotate", {})) == (403, "expires_too_late")
    assert create(brief, expires_at=(end - timedelta(minutes=1)).isoformat()).status_code == 201
    own = brief.post(f"api-keys/{brief.principal.id}/rotate", {}).json()
    assert own["expires_at"] == end.isoformat().replace("+00:00", "Z")


def test_an_expired_key_is_not_rotated(owner: Actor, in_acme: Tenant) -> None:
    key = create(owner).json()
    ApiKey.objects.filter(id=key["id"]).update(expires_at=timezone.now())
    assert error(owner.post(f"api-keys/{key['id']}/rotate", {})) == (409, "api_key_expired")
    assert ApiKey.objects.count() == 2


def test_revoking_takes_effect_at_once_here_and_within_five_seconds_elsewhere(
    owner: Actor, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_actor(acme, "member")
    assert other.get("me").status_code == 200
    with tenant_context(acme.id):
        ApiKey.objects.filter(id=other.principal.id).update(revoked_at=timezone.now())  # as another process would
    assert other.get("me").status_code == 200  # from the cache
    assert settings.API_KEY_CACHE_SECONDS < 5
    later = authentication.time.monotonic() + settings.API_KEY_CACHE_SECONDS + 0.01
    monkeypatch.setattr(authentication.time, "monotonic", lambda: later)
    assert error(other.get("me")) == (401, "api_key_revoked")


def test_revoking_over_the_api(owner: Actor, in_acme: Tenant, django_capture_on_commit_callbacks: Any) -> None:
    key = create(owner).json()
    assert authenticate_api_key(key["token"])
    with django_capture_on_commit_callbacks(execute=True):
        assert owner.delete(f"api-keys/{key['id']}").status_code == 204
        assert owner.delete(f"api-keys/{key['id']}").status_code == 204
    with pytest.raises(NotAuthenticated, match="revoked"):
        authenticate_api_key(key["token"])
    assert AuditEvent.objects.filter(action="api_key.revoke", object_id=key["id"]).count() == 1


@pytest.mark.parametrize("token", ["", "ask_", "sk-abc", "ask_nope_x", "ask_a b_c", "ask_ä_c", "ask_nope_\udcff"])
def test_a_wrong_key_is_refused(owner: Actor, token: str) -> None:
    with pytest.raises(NotAuthenticated):
        authenticate_api_key(token)


def test_a_right_prefix_with_a_wrong_secret_answers_as_a_wrong_prefix(owner: Actor) -> None:
    answers = set()
    for token in (owner.token[:-1] + ("a" if owner.token[-1] != "a" else "b"), "ask_nosuchprefix_secret"):
        response = owner.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        body = response.json()["error"]
        body.pop("request_id")
        answers.add((response.status_code, response.headers["WWW-Authenticate"], str(body)))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def test_a_suspended_tenant_is_refused(owner: Actor, in_acme: Tenant) -> None:
    Tenant.objects.filter(id=in_acme.id).update(status="suspended")
    assert error(owner.get("me")) == (403, "tenant_suspended")


def test_bad_input_writes_nothing(owner: Actor, in_acme: Tenant) -> None:
    before = ApiKey.objects.count()
    for body in (
        {},
        {"name": "x"},
        {"name": 1, "role": "member"},
        {"name": "x", "role": "king"},
        {"name": "x", "role": "member", "scopes": ["all"]},
        {"name": "x", "role": "member", "extra": 1},
        {"name": "x", "role": "member", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x\u0000", "role": "member"},
        [],
    ):
        assert owner.post("api-keys", body).status_code == 400, body
    assert ApiKey.objects.count() == before


def test_every_fault_is_named_at_once(owner: Actor) -> None:
    body = create(owner, role="king", name="", extra=1).json()["error"]
    assert {fault["path"] for fault in body["details"]} >= {"extra"}
    body = create(owner, role="king", name="").json()["error"]
    assert {fault["path"] for fault in body["details"]} == {"role", "name"}


def test_the_list_is_paged_in_a_constant_number_of_queries(owner: Actor, django_assert_num_queries: Any) -> None:
    for number in range(5):
        create(owner, name=f"k{number}")
    seen: list[str] = []
    cursor = ""
    while True:
        with django_assert_num_queries(1):
            page = owner.get("api-keys", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [row["name"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert seen == ["k4", "k3", "k2", "k1", "k0", "owner of acme"]
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "!"}, {"cursor": "AAAA"}):
        assert owner.get("api-keys", **bad).status_code == 400
