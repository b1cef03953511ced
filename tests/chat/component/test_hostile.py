"""Hostile strings wherever text of others comes in: nothing runs or is loaded, and only what is allowed is made."""

import json
import re
from typing import Any

from playwright.sync_api import expect

from tests.chat.component.conftest import Come, Person
from tests.outside.site import CHECKOUT

HOSTILE: list[str] = json.loads((CHECKOUT / "tests" / "js" / "chat-hostile.json").read_text())
AT_ONCE = 16  # strings in one answer
ELEMENTS = re.findall(
    r"\S+",
    """
    a article bdi blockquote br button code del details div em form h3 h4 h5 h6 hr i input li ol p path pre span
    strong summary svg table tbody td textarea th thead tr ul
    """,
)
ATTRIBUTES = re.findall(
    r"\S+",
    """
    aria-busy aria-describedby aria-hidden aria-label aria-live aria-pressed aria-relevant checked class d
    data-align data-state data-status dir disabled enterkeyhint hidden href id maxlength open part placeholder
    readonly rel role rows spellcheck start style tabindex target title type viewBox
    """,
)
SEEN = """() => [...document.querySelector('agent-chat').shadowRoot.querySelectorAll('*')].map(element => ({
    name: element.localName, attributes: [...element.attributes].map(({name, value}) => [name, value])}))"""


def test_there_are_two_hundred() -> None:
    assert len(set(HOSTILE)) >= 200


def test_nothing_runs_and_nothing_is_loaded(come: Come) -> None:
    """As answer, call, arguments, result, author and title; while they come, and when they are loaded."""
    iris = come()
    with iris.server.client() as http:
        session = http.post("sessions", json={"agent": "scripted", "title": HOSTILE[0]}).json()["id"]
        iris.open(session=session)
        for place in range(0, len(HOSTILE), AT_ONCE):
            some = HOSTILE[place : place + AT_ONCE]
            body = {"model": "scripted", "metadata": {"session_id": session, "user_id": author(some)}, **said(some)}
            assert http.post("chat/completions", json=body).status_code == 200
        answers = -(-len(HOSTILE) // AT_ONCE)
        expect(iris.answers).to_have_count(answers)
        expect(iris.answers.last.get_by_role("button", name="Copy", exact=True)).to_be_visible()
        check(iris)
        iris.open(session=session)
        expect(iris.answers).to_have_count(answers)
        check(iris)
        for title in HOSTILE:
            http.patch(f"sessions/{session}", json={"title": title[:200]})
        iris.open(session=session)
        expect(iris.page.get_by_role("log", name=HOSTILE[-1][:200], exact=True)).to_be_visible()
    iris.shot("hostile")


def said(some: list[str]) -> dict[str, Any]:
    """A script that says them, each as a block of its own, and calls tools by their names, with them as arguments."""
    calls = [{"tool": text[:60], "args": {text: text, "filename": text}} for text in some[:4]]
    script = [{"say": "\n\n".join(some)}, *calls, {"say": some[-1]}]
    return {"messages": [{"role": "user", "content": "#script " + json.dumps(script)}]}


def author(some: list[str]) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "", some[0])[:128]


def check(person: Person) -> None:
    for element in person.page.evaluate(SEEN):
        assert element["name"] in ELEMENTS, element
        for name, value in element["attributes"]:
            assert name in ATTRIBUTES, element
            if name == "href":
                assert re.match(r"(https?|mailto):", value), element
            if name == "style":
                assert re.fullmatch(r"height: (auto|[\d.]+px);", value), element
    assert person.page.evaluate("performance.getEntriesByType('resource').map(({name}) => name)") != []
    assert person.faults == []
