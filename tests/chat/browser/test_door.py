"""Coming in and going out, the tenants of a person, and how the page looks in each of its looks."""

import json
import re

from playwright.sync_api import expect

from tests.chat.browser.conftest import Comes

ANSWER = "# A heading\n\nSome *words* and a [link](https://example.com).\n\n1. one\n2. two\n\n```python\nprint(1)\n```"


def test_a_person_signs_in_and_out(comes: Comes, look: str) -> None:
    ada = comes(look=look)
    ada.goto("/chat/")
    ada.page.wait_for_url("**/chat/login/?next=*")
    ada.checked("login")
    ada.page.get_by_label("Username").fill("ada")
    ada.page.get_by_label("Password").fill("wrong")
    ada.page.get_by_role("button", name="Sign in").click()
    expect(ada.page.get_by_role("alert")).to_have_text("Your username and password did not match.")
    ada.checked("login-wrong")
    ada.sign_in("ada")
    expect(ada.page.get_by_text("How can I help?")).to_be_visible()
    ada.checked("new")
    if look.startswith("phone"):
        ada.page.get_by_role("button", name="Open the list of conversations").click()
    ada.page.get_by_role("button", name="Sign out").click()
    ada.page.wait_for_url("**/chat/login/")
    ada.goto("/chat/")
    ada.page.wait_for_url("**/chat/login/?next=*")


def test_a_conversation_looks_well(comes: Comes, look: str) -> None:
    ada = comes("ada", look=look)
    ada.talk("How it looks")
    ada.say(f"#script {json.dumps([{'say': ANSWER}])}")
    expect(ada.page.locator("agent-chat").get_by_role("heading", name="A heading")).to_be_visible()
    ada.checked("talk")
    phone = look.startswith("phone")
    if phone:
        opened = ada.page.get_by_role("button", name="Open the list of conversations")
        opened.click()
        expect(ada.page.get_by_role("button", name="Close the list of conversations")).to_be_focused()
        expect(ada.listed.first).to_be_visible()
        ada.checked("drawer")
        ada.page.keyboard.press("Escape")
        expect(opened).to_be_focused()
        expect(ada.listed.first).to_be_hidden()
    ada.page.get_by_role("button", name="Share").click()
    expect(ada.page.get_by_role("dialog").get_by_role("combobox", name="Role of ada")).to_be_visible()
    ada.page.get_by_role("button", name="Make a link").click()
    expect(ada.page.get_by_role("textbox", name="The link")).to_be_visible()
    ada.checked("share")
    ada.page.keyboard.press("Escape")
    ada.choose("Rename")
    expect(ada.page.get_by_role("textbox", name="Title" if phone else re.compile("New title"))).to_be_focused()
    ada.checked("rename")
    ada.page.keyboard.press("Escape")
    ada.choose("Delete")
    expect(ada.page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    ada.checked("delete")
    ada.page.keyboard.press("Escape")


def test_from_right_to_left(comes: Comes) -> None:
    for look in ("light", "phone"):
        ada = comes("ada", look=look)
        ada.page.evaluate("document.documentElement.dir = 'rtl'")
        ada.talk("שלום, מה שלומך היום")
        if look == "light":
            side, main = ada.page.locator("#side").bounding_box(), ada.page.locator("main").bounding_box()
            assert side is not None
            assert main is not None
            assert side["x"] > main["x"]
        ada.checked("rtl")
        ada.page.get_by_role("button", name="Actions of this conversation").click()
        ada.checked("rtl-menu")
        ada.page.keyboard.press("Escape")
        if look == "phone":
            ada.page.get_by_role("button", name="Open the list of conversations").click()
            ada.checked("rtl-drawer")


def test_the_theme_is_chosen_and_kept(comes: Comes) -> None:
    ada = comes("ada", look="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = ada.page.evaluate(ground)
    ada.page.get_by_label("Theme").select_option("dark")
    dark = ada.page.evaluate(ground)
    assert dark != light
    expect(ada.page.locator("agent-chat")).to_have_attribute("theme", "dark")
    ada.page.reload()
    expect(ada.page.get_by_label("Theme")).to_have_value("dark")
    assert ada.page.evaluate(ground) == dark
    ada.checked("dark-chosen")
    ada.page.get_by_label("Theme").select_option("auto")
    assert ada.page.evaluate(ground) == light


def test_a_person_of_two_tenants_is_in_one_at_a_time(comes: Comes) -> None:
    ada = comes("ada")
    session = ada.talk("In acme")
    ada.page.get_by_label("Tenant").select_option("globex")
    ada.page.wait_for_url("**/chat/")
    expect(ada.page.get_by_label("Tenant")).to_have_value("globex")
    expect(ada.listed.filter(has_text="In acme")).to_have_count(0)
    ada.goto(f"/chat/s/{session}")  # a link leads to its tenant
    ada.hears("You said: In acme")
    expect(ada.page.get_by_label("Tenant")).to_have_value("acme")
    assert all("404" in fault for fault in ada.faults)
    ada.faults.clear()


def test_the_agent_of_a_new_conversation_is_chosen_and_remembered(comes: Comes) -> None:
    ada = comes("ada")
    agent = ada.page.get_by_role("combobox", name="Agent")
    agent.select_option("scripted")
    ada.talk("For the scripted one")
    expect(ada.page.locator("#subtitle")).to_have_text("Scripted")
    expect(agent).to_be_hidden()
    ada.page.get_by_role("link", name="New conversation").click()
    expect(agent).to_have_value("scripted")
    ada.page.reload()
    expect(agent).to_have_value("scripted")


def test_a_reload_in_mid_answer_goes_on(comes: Comes) -> None:
    ada = comes("ada")
    ada.say('#script [{"repeat": "tick", "times": 60, "delay_ms": 100}, {"say": "Over."}]')
    expect(ada.page.get_by_text("tick tick tick").first).to_be_visible()
    ada.page.reload()
    expect(ada.page.get_by_text("tick tick tick").first).to_be_visible()
    expect(ada.page.locator("agent-chat").get_by_text("Over.").last).to_be_visible()
