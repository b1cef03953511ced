"""Who gets in where: login, landing, the tenant in the URL, and the headers of every page."""

import pytest
from django.test import Client

from core.tenant import tenant_context
from tenants.models import Membership, Tenant, User
from tests.admin.conftest import PASSWORD, browser_of, make_member, page, text_of

PAGES = [
    "",
    "live/",
    "agents/agent/",
    "agents/agent/add/",
    "toolsets/toolset/",
    "toolsets/toolset/add/",
    "toolsets/toolcall/",
    "llm/provider/",
    "llm/provider/add/",
    "llm/providermodel/",
    "llm/providermodel/add/",
    "llm/providerkey/",
    "llm/providerkey/add/",
    "llm/route/",
    "llm/route/add/",
    "llm/endpointhealth/",
    "runs/run/",
    "sessions_app/chatsession/",
    "tenants/membership/",
    "tenants/membership/add/",
    "tenants/apikey/",
    "tenants/apikey/add/",
    "tenants/publishablekey/",
    "tenants/publishablekey/add/",
    "audit/auditevent/",
    "usage-report/",
    "usage/usagerecord/",
    "usage/budget/",
    "usage/budget/add/",
    "usage/price/",
    "usage/price/add/",
    "search/?s=x&extended=1",
    "password_change/",
]
VIEWERS = {
    "",
    "live/",
    "agents/agent/",
    "toolsets/toolset/",
    "toolsets/toolcall/",
    "llm/provider/",
    "llm/providermodel/",
    "llm/providerkey/",
    "llm/route/",
    "llm/endpointhealth/",
    "runs/run/",
    "search/?s=x&extended=1",
} | {
    "sessions_app/chatsession/",
    "tenants/membership/",
    "password_change/",
}


def test_the_owner_opens_every_page_under_the_policy(olga: Client) -> None:
    for path in PAGES:
        response = page(olga, path)
        assert (path, response.status_code) == (path, 200)
        assert "script-src 'self';" in response["Content-Security-Policy"], path
        assert "unsafe-eval" not in response["Content-Security-Policy"], path


def test_the_viewer_opens_what_the_permission_table_allows(vera: Client) -> None:
    statuses = {path: page(vera, path).status_code for path in PAGES}
    assert statuses == {path: 200 if path in VIEWERS else 403 for path in PAGES}


def test_a_stranger_finds_nothing(stan: Client, acme: Tenant) -> None:
    assert {path: page(stan, path).status_code for path in PAGES} == dict.fromkeys(PAGES, 404)


def test_an_unknown_tenant_is_refused_as_a_foreign_one_is(stan: Client, acme: Tenant) -> None:
    foreign, unknown, role = page(stan, ""), page(stan, "", tenant="nowhere"), page(stan, "nothing/", tenant="globex")
    assert foreign.content == unknown.content
    for response in (foreign, unknown, role):
        assert response.status_code == 404
        assert "Back to your tenant" in text_of(response)
        assert "script-src 'self';" in response["Content-Security-Policy"]
    assert "acme" not in text_of(foreign)


def test_what_a_role_may_not_do_is_a_page_that_says_so(vera: Client) -> None:
    response = page(vera, "agents/agent/add/")
    assert response.status_code == 403
    assert "Your role does not permit this." in text_of(response)
    assert "script-src 'self';" in response["Content-Security-Policy"]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_is_led_to_the_login_and_back(client: Client, acme: Tenant, path: str) -> None:
    response = page(client, path)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/?next=%2Ft%2Facme%2Fadmin%2F")


def test_signing_in_leads_to_the_page_that_was_asked_for(olga: Client, client: Client) -> None:
    asked = page(client, "runs/run/")["Location"]
    response = client.post(asked, {"username": "olga", "password": PASSWORD})
    assert response["Location"] == "/t/acme/admin/runs/run/"
    assert client.get(response["Location"]).status_code == 200


def test_a_wrong_password_says_so(olga: Client, client: Client) -> None:
    response = client.post("/admin/login/?next=/", {"username": "olga", "password": "wrong"})
    assert response.status_code == 200
    assert text_of(response).count("errornote") == 1
    assert "Your username and password did not match." in text_of(response)


def test_landing_goes_where_one_last_was(olga: Client) -> None:
    page(olga, "", tenant="globex")
    assert olga.get("/")["Location"] == "/t/globex/admin/"
    page(olga, "", tenant="acme")
    assert olga.get("/")["Location"] == "/t/acme/admin/"
    assert olga.get("/admin/")["Location"] == "/"
    assert olga.get("/admin/agents/agent/")["Location"] == "/"
    assert olga.get("/t/acme")["Location"] == "/t/acme/admin/"
    assert olga.get("/admin/login/")["Location"] == "/"


def test_landing_of_a_member_of_nothing(db: None) -> None:
    user = User.objects.create_user("nadia", is_staff=True)
    response = browser_of(user).get("/")
    assert response.status_code == 403
    assert "You are a member of no tenant" in text_of(response)
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    assert browser_of(user).get("/")["Location"] == "/platform/"


def test_a_suspended_member_is_refused(vera: Client, acme: Tenant) -> None:
    with tenant_context(acme.id):
        Membership.objects.filter(user__username="vera").update(status="suspended")
    response = page(vera, "")
    assert response.status_code == 403
    assert "Your membership is suspended." in text_of(response)
    assert vera.get("/").status_code == 403


def test_a_suspended_tenant_is_closed(olga: Client, acme: Tenant) -> None:
    with tenant_context(acme.id):
        Tenant.objects.filter(id=acme.id).update(status="suspended")
    assert page(olga, "").status_code == 403
    assert olga.get("/")["Location"] == "/t/globex/admin/"


def test_every_link_carries_the_tenant(olga: Client) -> None:
    content = text_of(page(olga, "", tenant="globex"))
    assert 'href="/t/globex/admin/agents/agent/"' in content
    assert 'href="/admin/' not in content
    assert "Working in <strong>Globex</strong> as admin" in content
    assert '<option value="/t/acme/admin/"' in content


def test_signing_out_ends_it(olga: Client) -> None:
    assert olga.post("/t/acme/admin/logout/").status_code == 200
    assert page(olga, "").status_code == 302


def test_pages_are_compressed_and_the_api_is_not_touched(olga: Client) -> None:
    response = olga.get("/t/acme/admin/", headers={"Accept-Encoding": "gzip"})
    assert response["Content-Encoding"] == "gzip"
    answer = olga.get("/v1/health", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer
    assert "Content-Security-Policy" not in answer


def test_swagger_runs_no_inline_script(client: Client, db: None) -> None:
    response = client.get("/v1/docs/")
    assert "script-src 'self';" in response["Content-Security-Policy"]
    assert "<script>" not in text_of(response)


async def test_the_same_doors_under_asgi(acme: Tenant) -> None:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    user = await sync_to_async(make_member)(acme, "asta", "operator")
    client = AsyncClient()
    await client.aforce_login(user)
    assert (await client.get("/t/acme/admin/agents/agent/")).status_code == 200
    assert (await client.get("/t/globex/admin/")).status_code == 404
    assert (await client.get("/t/acme/admin")).status_code == 302
