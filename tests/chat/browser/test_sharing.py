"""Several people in one conversation, each in a browser of their own."""

import re
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.chat.browser.conftest import SESSION, Comes, Visitor


def shares(owner: Visitor) -> Any:
    """The dialog in which the owner of the open conversation shares it."""
    owner.page.get_by_role("button", name="Share").click()
    return owner.page.get_by_role("dialog", name=re.compile("^Share"))


def link(owner: Visitor, audience: str, may: str = "may talk", uses: str = "") -> str:
    """The path of a new invitation."""
    dialog = shares(owner)
    dialog.get_by_role("combobox", name="They").select_option(may)
    dialog.get_by_role("combobox", name="Who").select_option(audience)
    dialog.get_by_label("Uses").fill(uses)
    dialog.get_by_role("button", name="Make a link").click()
    url = dialog.get_by_role("textbox", name="The link").input_value()
    owner.page.keyboard.press("Escape")
    return "/chat/" + str(url).partition("/chat/")[2]


def adds(owner: Visitor, name: str, role: str = "member") -> None:
    dialog = shares(owner)
    dialog.get_by_label("Add a member of this tenant").fill(name)
    dialog.locator("form").get_by_role("combobox", name="Role").select_option(role)
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("combobox", name=f"Role of {name}")).to_have_value(role)
    owner.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def people(visitor: Visitor, *names: str) -> None:
    faces = visitor.page.get_by_role("list", name="People here")
    for name in names:
        expect(faces.get_by_text(name, exact=True)).to_be_attached()
    expect(faces.get_by_role("listitem")).to_have_count(len(names))


def names(visitor: Visitor, author: str) -> None:
    """The author stands at a message."""
    expect(visitor.page.get_by_role("article").get_by_text(author, exact=True).first).to_be_visible()


def both(comes: Comes, title: str) -> tuple[Visitor, Visitor]:
    """Ada, who has begun a conversation, and Grace, whom she has added."""
    ada, grace = comes("ada"), comes("grace")
    session = ada.talk(title)
    adds(ada, "grace")
    grace.goto(f"/chat/s/{session}")
    grace.hears(f"You said: {title}")
    return ada, grace


def test_a_list_of_people_that_comes_late_replaces_no_newer_one(comes: Comes) -> None:
    ada = comes("ada")
    ada.talk("Slow people")
    held: list[tuple[Route, Any]] = []
    ada.page.route(re.compile(r"/participants\?"), lambda route: held.append((route, route.fetch())), times=1)
    dialog = shares(ada)
    dialog.get_by_label("Add a member of this tenant").fill("grace")
    dialog.get_by_role("button", name="Add", exact=True).click()
    grace = dialog.get_by_role("combobox", name="Role of grace")
    expect(grace).to_have_value("member")
    [(route, old)] = held
    with ada.page.expect_response(re.compile(r"/participants\?")) as answer:
        route.fulfill(response=old)
    answer.value.finished()
    ada.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    expect(grace).to_have_count(1)


def test_two_people_see_each_others_messages_and_the_same_stream(comes: Comes) -> None:
    ada, grace = both(comes, "A plan for two")
    grace.say('#script [{"repeat": "tick", "times": 40, "delay_ms": 100}, {"say": "Done."}]')
    for visitor in (ada, grace):  # while it is still being said
        expect(visitor.page.get_by_role("button", name="Stop")).to_be_visible()
        expect(visitor.page.get_by_text("tick tick tick").first).to_be_visible()
    names(ada, "grace")
    for visitor in (ada, grace):
        expect(visitor.page.locator("agent-chat").get_by_text("Done.").last).to_be_visible()
    ada.shot("two")
    ada.say("And from me")
    grace.hears("And from me")
    grace.hears("You said: And from me")
    names(grace, "ada")


def test_it_shows_who_is_here_and_who_types(comes: Comes) -> None:
    ada, grace = both(comes, "Who is here")
    people(ada, "ada (you)", "grace")
    people(grace, "ada", "grace (you)")
    dialog = shares(ada)
    expect(dialog.get_by_text("here now")).to_have_count(1)  # of Grace; Ada knows of herself
    ada.page.keyboard.press("Escape")
    grace.composer.press_sequentially("I am")
    expect(ada.page.get_by_text("grace is typing")).to_be_visible()
    ada.checked("typing")
    grace.page.context.close()
    people(ada, "ada (you)")


def test_a_guest_comes_by_a_link_and_comes_back(comes: Comes) -> None:
    ada, bob = comes("ada"), comes()
    session = ada.talk("Come in, Bob")
    path = link(ada, "anyone", uses="1")
    bob.goto(path)
    expect(bob.page.get_by_role("heading", name="You are invited to a conversation")).to_be_visible()
    assert "invite" not in bob.page.url
    bob.checked("guest-door")
    bob.page.get_by_label("Your name").fill("Bob")
    bob.page.get_by_role("button", name="Join as a guest").click()
    bob.page.wait_for_url(SESSION)
    bob.hears("You said: Come in, Bob")
    expect(bob.page.locator("#side")).to_be_hidden()
    bob.say("Thank you")
    for visitor in (ada, bob):
        visitor.hears("You said: Thank you")
    names(ada, "Bob")
    bob.checked("guest")
    bob.page.reload()
    bob.hears("You said: Thank you")
    eve = comes()
    eve.goto(path)
    eve.page.get_by_label("Your name").fill("Eve")
    eve.page.get_by_role("button", name="Join as a guest").click()
    expect(eve.page.get_by_role("heading", name="This invitation does not work")).to_be_visible()
    eve.checked("refused")
    assert all("404" in fault for fault in eve.faults)
    eve.faults.clear()
    eve.goto(f"/chat/s/{session}")
    eve.page.wait_for_url("**/chat/login/?next=*")


def test_a_member_comes_by_a_link_and_signs_in_on_the_way(comes: Comes) -> None:
    ada, grace = comes("ada"), comes()
    ada.talk("For members")
    grace.goto(link(ada, "members", may="may read"))
    grace.page.get_by_role("link", name="Sign in").click()
    grace.page.wait_for_url("**/chat/login/**")
    password = next(p["password"] for p in grace.server.site.demo()["people"] if p["username"] == "grace")
    grace.page.get_by_label("Username").fill("grace")
    grace.page.get_by_label("Password").fill(password)
    grace.page.get_by_role("button", name="Sign in").click()
    grace.page.wait_for_url(SESSION)
    grace.hears("You said: For members")
    expect(grace.listed.filter(has_text="For members")).to_have_count(1)


def test_a_viewer_reads_and_cannot_send(comes: Comes) -> None:
    ada, grace = comes("ada"), comes("grace")
    session = ada.talk("Look at this")
    adds(ada, "grace", "viewer")
    grace.goto(f"/chat/s/{session}")
    grace.hears("You said: Look at this")
    expect(grace.composer).to_be_hidden()
    expect(grace.page.get_by_text("You can read this conversation, but not write in it.")).to_be_visible()
    grace.checked("viewer")
    grace.page.get_by_role("button", name="Actions of this conversation").click()
    entries = grace.page.get_by_role("menuitem").all_inner_texts()
    assert entries == ["Continue in a copy", "Export as Markdown", "Export as JSON", "Leave"]
    grace.page.keyboard.press("Escape")
    grace.page.get_by_role("button", name="People", exact=True).click()
    expect(grace.page.get_by_role("dialog").get_by_text("Viewer, may read")).to_be_visible()
    grace.checked("people")
    grace.page.keyboard.press("Escape")
    grace.choose("Continue in a copy")
    grace.notice("This is your own copy; the other conversation stays as it is.")
    grace.say("In my own")
    grace.hears("You said: In my own")


@pytest.mark.parametrize(("asked", "before"), [("sessions/*", 1), ("ws-tickets", 0)], ids=["page", "component"])
def test_a_role_that_changes_while_the_page_opens(comes: Comes, asked: str, before: int) -> None:
    """Once the page has read the session, or the component has too. What is asked for then is answered later."""
    ada, grace = comes("ada"), comes("grace")
    session = ada.talk("Soon an owner")
    adds(ada, "grace")
    dialog = shares(ada)
    routes: list[Route] = []

    def answer(route: Route) -> None:
        if len(routes) < before:
            route.continue_()
        routes.append(route)

    grace.page.route(f"**/v1/{asked}", answer)
    grace.goto(f"/chat/s/{session}")
    expect(grace.page.get_by_role("button", name="People", exact=True)).to_be_visible()
    with ada.page.expect_response(lambda response: response.request.method == "PATCH"):
        dialog.get_by_role("combobox", name="Role of grace").select_option("owner")
    while len(routes) <= before:
        grace.page.wait_for_timeout(50)
    for route in routes[before:]:
        route.continue_()
    grace.page.unroute_all()
    expect(grace.page.get_by_role("button", name="Share", exact=True)).to_be_visible(timeout=15_000)


def test_roles_are_changed_and_people_removed(comes: Comes) -> None:
    ada, grace = comes("ada"), comes("grace")
    session = ada.talk("Roles")
    adds(ada, "grace")
    grace.goto(f"/chat/s/{session}")
    expect(grace.composer).to_be_visible()
    dialog = shares(ada)
    dialog.get_by_role("combobox", name="Role of grace").select_option("owner")
    expect(grace.page.get_by_role("button", name="Share", exact=True)).to_be_visible(timeout=15_000)
    dialog.get_by_role("combobox", name="Role of grace").select_option("viewer")
    expect(grace.composer).to_be_hidden(timeout=15_000)  # her socket is closed, and opened anew as a viewer's
    expect(grace.page.get_by_role("button", name="People", exact=True)).to_be_visible()
    dialog.get_by_role("combobox", name="Role of ada").select_option("viewer")
    expect(dialog.get_by_role("status")).to_have_class(re.compile("fault"))
    expect(dialog.get_by_role("combobox", name="Role of ada")).to_have_value("owner")
    ada.faults.clear()
    dialog.get_by_role("button", name="Remove grace").click()
    asked = ada.page.get_by_role("dialog", name="Remove grace?")
    expect(asked.get_by_role("button", name="Cancel")).to_be_focused()
    asked.get_by_role("button", name="Remove", exact=True).click()
    expect(dialog.get_by_role("status")).to_be_empty()
    expect(dialog.get_by_role("combobox", name="Role of grace")).to_have_count(0)
    expect(dialog.get_by_role("heading", name="Share “Roles”")).to_be_focused()
    expect(grace.page.get_by_text("You no longer take part in this conversation.")).to_be_visible(timeout=15_000)
    expect(grace.listed.filter(has_text="Roles")).to_have_count(0)
    for button in ("Share", "People", "Actions of this conversation"):
        expect(grace.page.get_by_role("button", name=button, exact=True)).to_have_count(0)
    grace.page.reload()
    expect(grace.page.get_by_text("There is no such conversation, or you do not take part in it.")).to_be_visible()
    grace.checked("not-found")
    grace.faults.clear()


def test_a_link_is_copied_listed_and_revoked(comes: Comes) -> None:
    ada, eve = comes("ada", permissions=["clipboard-read", "clipboard-write"]), comes()
    ada.talk("Links")
    path = link(ada, "anyone")
    dialog = shares(ada)
    dialog.get_by_role("button", name="Make a link").click()
    copy = dialog.get_by_role("button", name="Copy")
    expect(copy).to_be_focused()
    copy.click()
    expect(dialog.get_by_text("The link was copied.")).to_be_visible()
    assert (
        ada.page.evaluate("navigator.clipboard.readText()")
        == dialog.get_by_role("textbox", name="The link").input_value()
    )
    expect(dialog.get_by_role("button", name="Revoke")).to_have_count(2)
    ada.checked("share")
    dialog.get_by_role("button", name="Revoke").last.click()
    expect(dialog.get_by_role("button", name="Revoke")).to_have_count(1)
    eve.goto(path)
    eve.page.get_by_label("Your name").fill("Eve")
    eve.page.get_by_role("button", name="Join as a guest").click()
    expect(eve.page.get_by_text("It may have expired, been used up or been taken back.")).to_be_visible()
    eve.faults.clear()


def test_who_leaves_sees_it_no_more(comes: Comes) -> None:
    ada, grace = comes("ada"), comes("grace")
    session = ada.talk("To be left")
    adds(ada, "grace")
    grace.goto(f"/chat/s/{session}")
    grace.hears("You said: To be left")
    grace.choose("Leave")
    grace.page.get_by_role("dialog").get_by_role("button", name="Leave").click()
    grace.notice("You left the conversation.")
    expect(grace.listed.filter(has_text="To be left")).to_have_count(0)
    expect(grace.title).to_have_text("New conversation")
