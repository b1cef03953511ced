"""What the server sends for `/chat/`, who may sign in to it, and which tenant it is in."""

import json
import re
from typing import Any

import pytest
from django.test import Client

from core.tenant import tenant_context
from tenants.models import Membership, Tenant, User
from tests.admin.conftest import PASSWORD, browser_of, make_member

pytestmark = pytest.mark.django_db
SESSION = "/chat/s/01a21ee8-8e70-772c-8ce4-3f0cd3e85cd9"


def known(response: Any) -> dict[str, Any]:
    """What the page's scripts are told."""
    found = re.search(r'<script id="known" type="application/json">(.*?)</script>', response.content.decode())
    assert found is not None
    told: dict[str, Any] = json.loads(found[1])
    return told


def sign_in(client: Client, username: str, password: str = PASSWORD, path: str = "/chat/login/?next=/chat/") -> Any:
    return client.post(path, {"username": username, "password": password})


@pytest.fixture
def mia(acme: Tenant, globex: Tenant) -> Client:
    """A member of two tenants, whom the admin would not let in."""
    user = make_member(acme, "mia", "member")
    make_member(globex, "mia", "viewer")
    User.objects.filter(pk=user.pk).update(is_staff=False)
    return browser_of(user)


def test_the_page_is_strict_and_kept_by_nobody(mia: Client) -> None:
    for client, path in ((mia, "/chat/"), (mia, SESSION), (Client(), "/chat/login/")):
        response = client.get(path)
        policy = response["Content-Security-Policy"]
        assert response.status_code == 200
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        page = response.content.decode()
        assert re.findall(r"\sstyle=|\son\w+=|<style|<script(?![^>]*(?:src=|application/json))", page) == []


def test_nobody_gets_the_page_with_no_cookie_and_nothing_in_it(client: Client, acme: Tenant) -> None:
    response = client.get("/chat/")
    assert known(response) == {"person": None, "tenants": [], "tenant": None}
    assert not response.cookies
    assert client.get("/chat/?tenant=acme")["Location"] == "/chat/login/?next=/chat/%3Ftenant%3Dacme"


def test_who_is_no_staff_signs_in_and_out(mia: Client) -> None:
    client = Client()
    assert sign_in(client, "mia")["Location"] == "/chat/"
    told = known(client.get("/chat/"))
    assert told["person"]["name"] == "mia"
    assert [tenant["slug"] for tenant in told["tenants"]] == ["acme", "globex"]
    assert client.get("/chat/login/?next=/chat/")["Location"] == "/chat/"
    assert client.get("/chat/logout/").status_code == 405
    assert client.post("/chat/logout/")["Location"] == "/chat/login/"
    assert known(client.get("/chat/"))["person"] is None


def test_a_wrong_sign_in_says_so_and_tells_nothing(mia: Client) -> None:
    User.objects.create_user("nina", password=PASSWORD, is_active=False)
    pages = [
        re.sub(r'value="[^"]*"', "", sign_in(Client(), name, password).content.decode())
        for name, password in (("mia", "wrong"), ("nobody", "wrong"), ("nina", PASSWORD))
    ]
    assert "Your username and password did not match." in pages[0]
    assert len(set(pages)) == 1
    assert "Enter your username and your password." in sign_in(Client(), "mia", "").content.decode()


def test_a_sign_in_leads_to_this_site_only(mia: Client) -> None:
    assert sign_in(Client(), "mia", path="/chat/login/?next=https://evil.example/")["Location"] == "/chat/"
    assert sign_in(Client(), "mia", path=f"/chat/login/?next={SESSION}")["Location"] == SESSION


def test_a_sign_in_needs_the_csrf_token(mia: Client) -> None:
    assert sign_in(Client(enforce_csrf_checks=True), "mia").status_code == 403


def test_the_chosen_tenant_is_remembered(mia: Client) -> None:
    assert known(mia.get("/chat/"))["tenant"]["slug"] == "acme"
    assert mia.get(f"{SESSION}?tenant=globex")["Location"] == SESSION
    told = known(mia.get("/chat/"))["tenant"]
    assert (told["slug"], told["role"]) == ("globex", "viewer")
    assert mia.get("/chat/?tenant=nosuch").status_code == 404
    assert known(mia.get("/chat/"))["tenant"]["slug"] == "globex"


def test_a_suspended_membership_is_no_choice(mia: Client, globex: Tenant) -> None:
    mia.get("/chat/?tenant=globex")
    with tenant_context(globex.id):
        Membership.objects.filter(user__username="mia").update(status="suspended")
    told = known(mia.get("/chat/"))
    assert ([tenant["slug"] for tenant in told["tenants"]], told["tenant"]["slug"]) == (["acme"], "acme")
    assert mia.get("/chat/?tenant=globex").status_code == 404


def test_a_member_of_nothing_may_sign_in(db: None) -> None:
    told = known(browser_of(User.objects.create_user("nadia")).get("/chat/"))
    assert (told["tenant"], told["person"]["name"]) == (None, "nadia")


def test_names_cannot_end_the_script_that_tells_them(acme: Tenant) -> None:
    user = User.objects.create_user("x</script><img src=x onerror=alert(1)>")
    response = browser_of(user).get("/chat/")
    assert known(response)["person"]["name"] == user.username
    assert b"<img src=x" not in response.content


def test_other_addresses_lead_on_or_nowhere(mia: Client) -> None:
    assert mia.get("/chat")["Location"] == "/chat/"
    assert mia.get("/chat/s/nonsense").status_code == 404
    assert mia.post("/chat/").status_code == 405
