"""Guests' credentials: what they are let in by, and what ends them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.signing import TimestampSigner
from django.utils import timezone

from audit.models import AuditEvent
from core.errors import NotAuthenticated, NotPermitted
from tenants import authentication
from tenants.authentication import at_origin, authenticate_guest, ended
from tenants.models import Guest, PublishableKey, Tenant
from tenants.services.guests import guest_by_secret
from tests.conftest import Actor
from tests.tenants.guests import SHOP, GuestActor, make_guest, make_key

pytestmark = pytest.mark.django_db
OVER = timezone.now() - timedelta(seconds=1)


def refusal(response: Any) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


def get_token(actor: Actor, secret: str) -> Any:
    return actor.http.post("/v1/guest-tokens", {"secret": secret}, content_type="application/json")


@pytest.fixture
def ann(in_acme: Tenant) -> GuestActor:
    return make_guest(in_acme)


@pytest.fixture
def key(in_acme: Tenant) -> PublishableKey:
    return make_key(in_acme)


@pytest.fixture
def visitor(in_acme: Tenant, key: PublishableKey) -> GuestActor:
    return make_guest(in_acme, "Vic", key)


def test_a_secret_gets_tokens_and_is_stored_as_a_digest(ann: GuestActor, in_acme: Tenant) -> None:
    answer = get_token(ann, ann.secret)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, settings.GUEST_TOKEN_SECONDS)
    principal = authenticate_guest(answer.json()["token"])
    assert principal == ann.principal
    assert (principal.kind, principal.role, principal.label, principal.scopes) == (
        "guest",
        "member",
        "Ann",
        frozenset(),
    )
    row = Guest.objects.get()
    assert ann.secret not in str(vars(row))
    assert ann.secret.split("_", 2)[2].encode() not in bytes(row.secret_hash)
    event = AuditEvent.objects.get(action="guest.create")
    assert (event.object_id, event.actor_kind, event.actor_label) == (str(row.id), "guest", "Ann")
    assert ann.get("me").json()["principal"] == {"kind": "guest", "id": str(row.id), "label": "Ann"}


def _wrong(ann: GuestActor) -> list[str]:
    kind, tenant, random = ann.secret.split("_", 2)
    return [
        f"{kind}_{tenant}_{random[:-1]}{'a' if random[-1] != 'a' else 'b'}",
        f"{kind}_{tenant}_",
        f"{kind}_{'0' * 32}_{random}",
        f"{kind}_x_{random}",
        f"ask_{tenant}_{random}",
        random,
        "asv_",
    ]


def test_wrong_expired_and_revoked_are_told_apart_by_nobody(ann: GuestActor, in_acme: Tenant, key: Any) -> None:
    answers = {refusal(get_token(ann, secret)) for secret in _wrong(ann)}
    revoked_key = make_guest(in_acme, "Vic", key)
    PublishableKey.objects.update(revoked_at=OVER)
    answers.add(refusal(get_token(revoked_key, revoked_key.secret)))
    for change in ({"revoked_at": OVER}, {"expires_at": OVER}):
        guest = make_guest(in_acme)
        Guest.objects.filter(id=guest.principal.id).update(**change)
        answers.add(refusal(get_token(guest, guest.secret)))
    assert len(answers) == 1
    assert answers.pop()[:2] == (401, "invalid_guest")


@pytest.mark.parametrize(
    "change",
    [
        lambda: Guest.objects.update(revoked_at=OVER),
        lambda: Guest.objects.update(expires_at=OVER),
        lambda: PublishableKey.objects.update(revoked_at=OVER),
        lambda: Guest.objects.all().delete(),
    ],
)
def test_what_ended_is_refused_like_a_wrong_token_within_five_seconds(
    visitor: GuestActor, change: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visitor.get("me").status_code == 200
    wrong = refusal(visitor.http.get("/v1/me", headers={"Authorization": "Bearer asg_x"}))
    change()  # as another process would
    assert visitor.get("me").status_code == 200  # from the cache
    later = authentication.time.monotonic() + settings.API_KEY_CACHE_SECONDS + 0.01
    monkeypatch.setattr(authentication.time, "monotonic", lambda: later)
    assert refusal(visitor.get("me")) == wrong
    assert wrong[:2] == (401, "invalid_guest")
    assert {who: type(fault) for who, fault in ended([visitor.principal]).items()} == {
        visitor.principal: NotAuthenticated
    }


def test_a_forged_or_old_token_is_refused(ann: GuestActor, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = ann.token.removeprefix("asg_").split(".")[0]
    for forged in (
        f"asg_{guest}",
        ann.token[:-1] + ("A" if ann.token[-1] != "A" else "B"),
        "asg_" + TimestampSigner(salt="other", sep=".").sign(guest),
        "asg_" + TimestampSigner(salt="guest", key="other", sep=".").sign(guest),
        "asg_" + TimestampSigner(salt="guest", sep=".").sign("no-id"),
    ):
        with pytest.raises(NotAuthenticated):
            authenticate_guest(forged)
    now = authentication.time.time()
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + settings.GUEST_TOKEN_SECONDS + 1)
    assert ann.get("me").status_code == 401
    assert get_token(ann, ann.secret).status_code == 200


def test_a_suspended_tenant_is_refused(ann: GuestActor, in_acme: Tenant) -> None:
    Tenant.objects.filter(id=in_acme.id).update(status="suspended")
    authentication.forget_guests()
    assert refusal(ann.get("me"))[:2] == refusal(get_token(ann, ann.secret))[:2] == (403, "tenant_suspended")
    assert {fault.code for fault in ended([ann.principal]).values()} == {"tenant_suspended"}


def test_a_widgets_guest_asks_from_its_pages_only(visitor: GuestActor, ann: GuestActor) -> None:
    assert visitor.get("me").status_code == 200
    for origin in ("https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example", ""):
        there = visitor.at(origin)
        assert refusal(there.get("me"))[:2] == refusal(get_token(there, there.secret))[:2] == (403, "origin")
    assert ann.at("https://anywhere.example").get("me").status_code == 200


def test_a_page_of_this_server_may_leave_the_origin_out(in_acme: Tenant) -> None:
    key = make_key(in_acme, origins=["http://testserver"])
    visitor = make_guest(in_acme, key=key, origin="")
    assert visitor.get("me").status_code == 200


async def test_async_views_know_guests_too(visitor: GuestActor) -> None:
    body = {"model": "a/b", "messages": [{"role": "user", "content": "x"}]}
    for _ in range(2):  # looked up, then from the cache
        assert refusal(await visitor.apost("chat/completions", body))[:2] == (403, "not_for_guests")
        refused = await visitor.ahttp.generic(
            "POST",
            "/v1/chat/completions",
            b"{}",
            "application/json",
            headers={**visitor.headers, "Origin": "https://evil"},
        )
        assert refusal(refused)[:2] == (403, "origin")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"origins": ["https://other.example"]}, "origin"),
        ({"origins": []}, "origin"),
        ({"agent": "x"}, "agent_changed"),
    ],
)
def test_a_changed_key_ends_those_that_it_no_longer_covers(
    visitor: GuestActor, key: PublishableKey, change: dict[str, Any], code: str
) -> None:
    here = at_origin(visitor.principal, SHOP)
    PublishableKey.objects.update(origins=["https://more.example", SHOP])
    assert ended([here]) == {}
    PublishableKey.objects.update(**change)
    assert {who: (type(fault), fault.code) for who, fault in ended([here]).items()} == {here: (NotPermitted, code)}


def test_the_principal_survives_a_ticket(visitor: GuestActor, in_acme: Tenant) -> None:
    here = at_origin(visitor.principal, SHOP)
    assert type(here).from_dict(in_acme.id, here.as_dict()) == here


def test_a_secret_costs_one_query_and_a_token_none_while_it_is_known(
    ann: GuestActor, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        assert guest_by_secret(ann.secret).label == "Ann"
    with django_assert_num_queries(0):
        authenticate_guest(ann.token)
    authentication.forget_guests()
    with django_assert_num_queries(1):
        authenticate_guest(ann.token)
