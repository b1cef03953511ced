"""Who takes part in a session, on its page in Chromium, at each look."""

import httpx
from playwright.sync_api import expect

from tests.admin.browser.conftest import Operator


def test_participants_are_changed_and_an_invitation_is_revoked(operator: Operator) -> None:
    page = operator.page
    with operator.server.client() as http:
        session = http.post("sessions", json={"agent": "scripted", "title": "Summer trip"}).json()["id"]
        body = {"role": "member", "audience": "anyone", "max_uses": 5}
        token = http.post(f"sessions/{session}/invitations", json=body).json()["token"]
    for name in ("Ann", "Benedikt Longname-Featherstonehaugh of Somewhere"):
        accept(operator, token, name)
    operator.open(f"sessions_app/chatsession/{session}/change/")
    expect(page.get_by_text("used 2 of 5 times")).to_be_visible()
    operator.shot("session-people")
    assert operator.serious() == []
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_text("The invitation was revoked.")).to_be_visible()
    page.get_by_label("Role of Ann", exact=True).select_option("viewer")
    page.get_by_role("button", name="Change the role of Ann").click()
    expect(page.get_by_text("Ann is viewer now.")).to_be_visible()
    page.get_by_role("button", name="Remove Ann").click()
    expect(page.get_by_text("They take no part in the session any more.")).to_be_visible()
    expect(page.get_by_label("Role of Ann", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Remove who came by it").click()
    expect(page.get_by_text("Nobody: API keys and operators use it.")).to_be_visible()


def accept(operator: Operator, token: str, name: str) -> None:
    url = f"{operator.server.api}/invitations/accept"
    httpx.post(url, json={"token": token, "name": name}, trust_env=False, timeout=30).raise_for_status()
