"""What pages of other origins are told: CORS, for the origins of live publishable keys."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from agentsite import cross_origin
from agentsite.cross_origin import CrossOrigin, widget_origins
from core.tenant import tenant_context
from tenants.models import PublishableKey, Tenant
from tests.agentsite.test_keyed import answer
from tests.conftest import Actor
from tests.tenants.guests import SHOP, make_key

pytestmark = pytest.mark.django_db
EVIL = "https://evil.example"


@pytest.fixture
def app() -> CrossOrigin:
    """As `agentsite.asgi` has it, with nothing known yet."""
    from agentsite.asgi import application

    outermost = application.application_mapping["http"]
    assert isinstance(outermost, CrossOrigin)
    return CrossOrigin(outermost.app)


@pytest.fixture
def key(in_acme: Tenant) -> PublishableKey:
    return make_key(in_acme)


def cors(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control") or name == "vary"}


async def preflight(app: CrossOrigin, who: Actor, origin: str, path: str = "/v1/visitors") -> Any:
    asked = {"origin": origin, "access-control-request-method": "POST"}
    return await answer(app, who, "OPTIONS", path, b"", **asked)


async def test_a_preflight_of_a_page_with_a_widget_is_answered(app: CrossOrigin, owner: Actor, key: Any) -> None:
    status, headers, body = await preflight(app, owner, SHOP)
    assert (status, body, headers["access-control-allow-origin"], headers["vary"]) == (204, b"", SHOP, "origin")
    assert "Authorization" in headers["access-control-allow-headers"]
    assert "POST" in headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in headers


async def test_a_preflight_of_another_page_is_refused(app: CrossOrigin, owner: Actor, key: Any) -> None:
    for origin in (EVIL, "null", "http://shop.example", "https://shop.example.evil.example"):
        status, headers, body = await preflight(app, owner, origin)
        assert (status, cors(headers)) == (403, {"vary": "origin"})
        assert b'"code":"origin"' in body


@pytest.mark.parametrize("path", ["/v1/me", "/v1/nowhere", "/v1/chat/completions"])
async def test_answers_may_be_read_by_pages_with_a_widget(app: CrossOrigin, owner: Actor, key: Any, path: str) -> None:
    _, plain, _ = await answer(app, owner, "GET", path, b"")
    assert not any(name.startswith("access-control") for name in plain)
    _, headers, _ = await answer(app, owner, "GET", path, b"", origin=SHOP)
    assert headers["access-control-allow-origin"] == SHOP
    for name in ("X-Request-Id", "X-Run-Id", "X-Session-Id", "Retry-After"):
        assert name in headers["access-control-expose-headers"]
    _, others, _ = await answer(app, owner, "GET", path, b"", origin=EVIL)
    assert not any(name.startswith("access-control") for name in others)
    assert "origin" in headers["vary"]
    assert "origin" in others["vary"]


async def test_the_chats_files_and_no_others(app: CrossOrigin, owner: Actor, key: Any) -> None:
    for path, shared in (("/static/chat/none.js", True), ("/static/none.js", False), ("/mcp", False), ("/", False)):
        _, headers, _ = await answer(app, owner, "GET", path, b"", origin=SHOP)
        assert (headers.get("access-control-allow-origin") == SHOP) is shared, path
    _, headers, _ = await answer(app, owner, "GET", "/static/chat/none.js", b"")
    assert cors(headers) == {"vary": "origin"}  # what a cache keeps for everybody


async def test_a_revoked_key_shares_nothing_within_five_seconds(
    app: CrossOrigin, owner: Actor, key: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await preflight(app, owner, SHOP))[0] == 204
    await sync_to_async(PublishableKey.objects.update)(revoked_at=timezone.now())
    assert (await preflight(app, owner, SHOP))[0] == 204  # from the cache
    assert settings.API_KEY_CACHE_SECONDS < 5
    later = cross_origin.time.monotonic() + settings.API_KEY_CACHE_SECONDS + 0.01
    monkeypatch.setattr(cross_origin.time, "monotonic", lambda: later)
    assert (await preflight(app, owner, SHOP))[0] == 403


async def test_what_was_known_stays_while_the_database_fails(
    app: CrossOrigin, owner: Actor, key: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    assert (await preflight(app, owner, SHOP))[0] == 204
    app._until = 0

    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(cross_origin, "widget_origins", fail)
    assert (await preflight(app, owner, SHOP))[0] == 204
    assert "could not be read" in caplog.text


def test_of_all_tenants_in_one_statement(acme: Tenant, globex: Tenant, django_assert_num_queries: Any) -> None:
    for tenant, origins in ((acme, [SHOP, "https://a.example"]), (globex, [SHOP, "https://b.example"])):
        with tenant_context(tenant.id):
            make_key(tenant, origins=origins)
    with django_assert_num_queries(1):
        assert widget_origins() == {SHOP, "https://a.example", "https://b.example"}
    with tenant_context(globex.id):
        Tenant.objects.filter(id=globex.id).update(status="suspended")
    assert widget_origins() == {SHOP, "https://a.example"}
