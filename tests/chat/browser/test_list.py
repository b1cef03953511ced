"""The list of conversations, and what is done with one: in the page, by mouse and by keyboard."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.chat.browser.conftest import Comes, Visitor
from tests.outside.site import Server

# Where the notice begins and the button ends, once both are there: the notice goes by itself after some seconds.
NOTICE_AND_BUTTON = """() => {
    const [notice, back] = [document.querySelector("#notice"), document.querySelector(".banner button")];
    if (!back || notice.textContent !== "Archived. It is in the list of archived ones.") return false;
    return { noticed: notice.getBoundingClientRect().top, button: back.getBoundingClientRect().bottom };
}"""


@pytest.fixture
def ada(comes: Comes) -> Visitor:
    return comes("ada")


def test_a_conversation_is_renamed_in_place(ada: Visitor) -> None:
    ada.talk("First words")
    ada.choose("Rename")
    field = ada.page.get_by_role("textbox", name="New title of First words")
    expect(field).to_be_focused()
    field.fill("A better name")
    ada.shot("rename")
    field.press("Enter")
    expect(ada.title).to_have_text("A better name")
    expect(ada.listed.first).to_have_text("A better name")
    expect(ada.listed.first).to_be_focused()
    assert ada.page.title() == "A better name · Chat"
    ada.choose("Rename")
    ada.page.keyboard.type("Not this")
    ada.page.keyboard.press("Escape")
    expect(ada.listed.first).to_have_text("A better name")
    ada.page.reload()
    expect(ada.title).to_have_text("A better name")


def test_what_was_last_talked_in_comes_first(ada: Visitor) -> None:
    ada.talk("The older one")
    ada.page.get_by_role("link", name="New conversation").click()
    expect(ada.composer).to_be_focused()
    ada.talk("The newer one")
    expect(ada.listed.nth(0)).to_have_text("The newer one")
    ada.listed.filter(has_text="The older one").click()
    expect(ada.title).to_have_text("The older one")
    expect(ada.page.locator("#list h2").first).to_have_text("Today")
    ada.say("Again")
    ada.hears("You said: Again")
    expect(ada.listed.nth(0)).to_have_text("The older one")
    ada.page.go_back()
    expect(ada.title).to_have_text("The newer one")
    ada.page.go_forward()
    expect(ada.title).to_have_text("The older one")
    ada.hears("You said: Again")


def test_a_conversation_that_answers_late_takes_no_other_ones_place(ada: Visitor) -> None:
    late = ada.talk("Slow to come")
    ada.page.get_by_role("link", name="New conversation").click()
    ada.talk("Quick to come")
    ada.page.get_by_role("link", name="New conversation").click()
    held: list[Route] = []
    ada.page.route(f"**/v1/sessions/{late}", lambda route: held.append(route), times=1)
    ada.listed.filter(has_text="Slow to come").click()
    ada.listed.filter(has_text="Quick to come").click()
    ada.hears("You said: Quick to come")
    with ada.page.expect_response(f"**/v1/sessions/{late}") as answer:
        held[0].continue_()
    answer.value.finished()
    ada.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    expect(ada.title).to_have_text("Quick to come")
    ada.hears("You said: Quick to come")


def test_a_conversation_is_archived_and_comes_back(ada: Visitor) -> None:
    ada.talk("To be archived")
    ada.choose("Archive")
    assert ada.page.wait_for_function(NOTICE_AND_BUTTON).evaluate("box => box.noticed >= box.button"), "it is covered"
    expect(ada.listed.filter(has_text="To be archived")).to_have_count(0)
    expect(ada.composer).to_be_hidden()
    expect(ada.page.get_by_text("This conversation is archived: it can be read")).to_be_visible()
    ada.page.get_by_role("button", name="Archived").click()
    expect(ada.listed.filter(has_text="To be archived")).to_have_count(1)
    ada.checked("archived")
    ada.page.get_by_role("button", name="Unarchive").click()
    expect(ada.composer).to_be_visible()
    expect(ada.listed.filter(has_text="To be archived")).to_have_count(0)
    ada.page.get_by_role("button", name="Archived").click()
    expect(ada.listed.filter(has_text="To be archived")).to_have_count(1)


def test_deleting_says_what_goes_and_asks_first(ada: Visitor) -> None:
    session = ada.talk("To be deleted")
    ada.choose("Delete")
    dialog = ada.page.get_by_role("dialog", name="Delete this conversation?")
    expect(dialog.get_by_text("“To be deleted” goes for good, with 2 messages")).to_be_visible()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    ada.checked("delete")
    ada.page.keyboard.press("Escape")
    expect(ada.listed.filter(has_text="To be deleted")).to_have_count(1)
    ada.choose("Delete")
    dialog.get_by_role("button", name="Delete").click()
    ada.notice("The conversation was deleted.")
    expect(ada.listed.filter(has_text="To be deleted")).to_have_count(0)
    expect(ada.title).to_have_text("New conversation")
    ada.goto(f"/chat/s/{session}")
    expect(ada.page.get_by_text("There is no such conversation")).to_be_visible()
    ada.faults.clear()


def test_a_copy_is_made_from_a_message_on(ada: Visitor) -> None:
    session = ada.talk("Message one")
    ada.say("Message two")
    ada.hears("You said: Message two")
    fork = ada.page.get_by_role("article").nth(1).get_by_role("button", name="Go on from here in a new conversation")
    ada.page.get_by_role("article").nth(1).hover()
    fork.click()
    ada.page.wait_for_url(lambda url: "/chat/s/" in url and session not in url)
    ada.hears("You said: Message one")
    expect(ada.page.get_by_role("article")).to_have_count(2)
    expect(ada.page.locator("#list [aria-current]")).to_have_text("Copy Message one")
    ada.choose("Continue in a copy")
    ada.notice("This is your own copy; the other conversation stays as it is.")


def test_a_conversation_is_exported(ada: Visitor, tmp_path: Path) -> None:
    ada.talk("Keep this")
    saved = {}
    for form in ("JSON", "Markdown"):
        with ada.page.expect_download() as download:
            ada.choose(f"Export as {form}")
        saved[form] = download.value
        download.value.save_as(tmp_path / form)
    assert "Keep this" in json.dumps(json.loads((tmp_path / "JSON").read_text()))
    assert "You said: Keep this" in (tmp_path / "Markdown").read_text()
    assert (saved["JSON"].suggested_filename[-5:], saved["Markdown"].suggested_filename[-3:]) == (".json", ".md")


def test_titles_and_messages_are_searched(ada: Visitor) -> None:
    ada.talk("Zanzibar by boat")
    ada.say("What about cinnamon?")
    ada.hears("You said: What about cinnamon?")
    search = ada.page.get_by_role("searchbox", name="Search conversations")
    ada.page.get_by_role("link", name="New conversation").click()
    search.fill("zanz")
    expect(ada.listed.first).to_have_text("Zanzibar by boat")
    expect(ada.page.locator("#list h2", has_text="Titles")).to_be_visible()
    search.fill("cinnamon")
    hit = ada.page.locator("#list .hits a", has_text="cinnamon").first
    expect(hit.locator("mark").first).to_have_text("cinnamon")
    ada.checked("search")
    ada.page.locator("#list .hits a", has_text="cinnamon").last.click()
    expect(ada.title).to_have_text("Zanzibar by boat")
    expect(ada.page.get_by_role("article").nth(2)).to_be_focused()
    expect(hit).to_be_visible()
    search.fill("nothing like this at all")
    expect(ada.page.get_by_text("Nothing was found for “nothing like this at all”.")).to_be_visible()
    search.fill("")
    expect(ada.page.locator("#list h2").first).to_have_text("Today")


@pytest.fixture
def many(server: Server, comes: Comes) -> Visitor:
    """Grace, who takes part in 95 conversations."""
    grace = comes("grace")
    made = """async () => {
        const csrf = document.cookie.match(/csrftoken=([^;]*)/)[1]
        const headers = {'X-Tenant': 'acme', 'X-CSRFToken': csrf, 'Content-Type': 'application/json'}
        for (let number = 1; number <= 95; number += 1) {
            const body = JSON.stringify({title: `Number ${number}`})
            await fetch('/v1/sessions', {method: 'POST', headers, body})
        }
    }"""
    grace.page.evaluate(made)
    grace.page.reload()
    return grace


def test_a_long_list_is_paged(many: Visitor) -> None:
    expect(many.listed.first).to_have_text("Number 95")
    expect(many.listed).to_have_count(40)
    many.page.get_by_role("button", name="Show older ones").click()
    expect(many.listed.nth(79)).to_be_attached()  # all, where the list was scrolled on the way to the button
    many.page.locator("#list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(many.listed.filter(has_text="Number 1").last).to_have_text("Number 1")
    titles = [title for title in many.listed.all_inner_texts() if title.startswith("Number")]
    assert titles == [f"Number {number}" for number in range(95, 0, -1)]


def test_it_is_used_by_keyboard_alone(ada: Visitor) -> None:
    ada.talk("By keys")
    page = ada.page
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chat")).to_be_focused()
    more = page.get_by_role("button", name="Actions of this conversation")
    more.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Continue in a copy")).to_be_focused()
    ada.checked("menu")
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(more).to_be_focused()
