"""Who has no account: visitors of a page with the widget, and people who were invited."""

from typing import Any

import httpx
from playwright.sync_api import expect

from tests.chat.component.conftest import Come, Person
from tests.outside.site import Server


def invited(person: Person, role: str, name: str) -> tuple[dict[str, Any], str]:
    """A guest in the person's session, with the id of their place in it."""
    server, session = person.server, person.session
    with server.client() as http:
        asked = http.post(f"sessions/{session}/invitations", json={"role": role, "audience": "anyone"}).json()
        url = f"{server.api}/invitations/accept"
        accepted = httpx.post(url, json={"token": asked["token"], "name": name}, trust_env=False).json()
        places = http.get(f"sessions/{session}/participants").json()["data"]
    return accepted["guest"], next(place["id"] for place in places if place["kind"] == "guest")


def arrive_as(person: Person, guest: dict[str, Any], session: str) -> None:
    person.arrive(session=session)
    person.page.evaluate("secret => { document.querySelector('agent-chat').guest = secret }", guest["secret"])


def test_a_visitor_talks_and_finds_the_conversation_again(come: Come, server: Server) -> None:
    with server.client() as http:
        body = {"name": "Shop", "agent": "scripted", "origins": [server.base_url]}
        key = http.post("publishable-keys", json=body).json()["token"]
    visitor = come(None)
    visitor.arrive(key=key)
    visitor.say("hello")
    expect(visitor.answers.first).to_contain_text("You said: hello")
    visitor.arrive(key=key, session=visitor.session)
    expect(visitor.answers.first).to_contain_text("You said: hello")
    expect(visitor.said.first.locator(".author")).to_have_text("You")
    other = come(None)
    other.arrive(key=key, session=visitor.session)
    expect(other.page.get_by_text("This conversation is closed to you")).to_be_visible()
    other.faults.clear()  # the console has the 404


def test_a_guest_talks_until_they_are_sent_away(iris: Person, come: Come) -> None:
    iris.say("hello")
    expect(iris.answers.first).to_contain_text("You said")
    guest, place = invited(iris, "member", "Zoë <b>")
    zoe = come(None)
    arrive_as(zoe, guest, iris.session)
    expect(zoe.said.first.locator(".author")).to_have_text("iris")
    zoe.say("good day")
    for person in (iris, zoe):
        expect(person.answers.nth(1)).to_contain_text("You said: good day")
    expect(iris.said.nth(1).locator(".author")).to_have_text("Zoë <b>")
    with iris.server.client() as http:
        assert http.delete(f"sessions/{iris.session}/participants/{place}").status_code == 204
    expect(zoe.page.get_by_text("This conversation is closed to you")).to_be_visible()
    zoe.faults.clear()  # the console has the 404


def test_who_may_only_read_has_nowhere_to_write(iris: Person, come: Come) -> None:
    iris.say("hello")
    expect(iris.answers.first).to_contain_text("You said")
    reader = come(None)
    guest, _ = invited(iris, "viewer", "Rea")
    arrive_as(reader, guest, iris.session)
    expect(reader.answers.first).to_contain_text("You said")
    expect(reader.page.get_by_text("You can read this conversation")).to_be_visible()
    expect(reader.field).to_be_hidden()
    expect(reader.answers.first.get_by_role("button", name="Answer again")).to_be_hidden()
    iris.say("and again")
    expect(reader.answers.nth(1)).to_contain_text("You said: and again")
    reader.shot("reader")
