"""The component by keyboard, by screen reader, in both themes, on a phone and from right to left."""

import re

import pytest
from playwright.sync_api import expect

from tests.chat.component.conftest import Come, Person
from tests.chat.component.test_talk import FILE, MARKDOWN

WIDE = "```\n" + "x" * 300 + "\n```\n\n| " + " | ".join(f"column {n}" for n in range(12)) + " |\n" + "|-" * 12 + "|\n\n"
LONG_WORD = "https://example.com/" + "a" * 200
ARABIC = "# خطة\n\nهذه **خطة** قصيرة:\n\n1. أولا\n2. ثانيا\n\n> اقتباس\n\nو `code` هنا."
PHONE = {"width": 320, "height": 640}


def talk(person: Person) -> None:
    """One of everything."""
    person.open(agent="clerk")
    person.script({"say": MARKDOWN}, {"tool": "list_files", "args": {}}, {"say": "Looked."})
    expect(person.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    person.answers.first.locator("summary").first.click()
    person.script({"fail": 500})
    expect(person.answers.nth(1)).to_contain_text("The provider failed")
    person.script(FILE)
    expect(person.page.get_by_role("group", name="Approve this call?")).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_serious(come: Come, look: str) -> None:
    ada = come(color_scheme=look)
    ada.open()
    assert ada.serious() == []
    ada.shot(f"{look}-welcome")
    talk(ada)
    assert ada.serious() == []
    ada.shot(f"{look}-talk")
    other = "dark" if look == "light" else "light"
    ada.page.evaluate("theme => document.querySelector('agent-chat').setAttribute('theme', theme)", other)
    assert ada.serious() == []
    background = ada.chat.evaluate("chat => getComputedStyle(chat).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (other == "light")


def test_a_phone_of_320_pixels(come: Come) -> None:
    ada = come(viewport=PHONE, has_touch=True)
    talk(ada)
    ada.shot("phone-talk")
    ada.open()
    ada.script({"say": WIDE + LONG_WORD})
    expect(ada.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    ada.shot("phone-wide")
    log = ada.page.get_by_role("log")
    assert log.evaluate("log => log.scrollWidth <= log.clientWidth")
    assert ada.page.locator(".code pre").evaluate("code => code.scrollWidth > code.clientWidth")
    assert ada.page.locator(".table").evaluate("table => table.scrollWidth > table.clientWidth")
    assert ada.serious() == []


def test_from_right_to_left(come: Come) -> None:
    ada = come()
    ada.open(dir="rtl")
    ada.script({"say": ARABIC}, {"tool": "current_time", "args": {}}, {"say": "```python\nx = 1\n```"})
    answer = ada.answers.first
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    heading = answer.get_by_role("heading", name="خطة")
    assert heading.evaluate("heading => getComputedStyle(heading).direction") == "rtl"
    assert answer.locator("pre").last.evaluate("code => getComputedStyle(code).direction") == "ltr"
    middle = ada.page.viewport_size["width"] / 2
    ada.say("مرحبا")
    expect(ada.answers.nth(1)).to_contain_text("مرحبا")
    box = ada.said.nth(1).bounding_box()
    assert box is not None
    assert box["x"] < middle, "one's own messages stand at the end side, here the left"
    ada.shot("rtl")
    assert ada.serious() == []


def test_everything_by_keyboard(come: Come) -> None:
    ada = come()
    ada.open(agent="clerk")
    keyboard = ada.page.keyboard
    ada.field.focus()
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    expect(ada.said.first.locator(".bubble")).to_have_text("one\ntwo")
    expect(ada.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    ada.script(FILE, {"say": "Written."})
    expect(ada.page.get_by_role("group", name="Approve this call?")).to_be_visible()
    reach(ada, "Approve")
    keyboard.press("Enter")
    expect(ada.answers.nth(1)).to_contain_text("Written.")
    reach(ada, "create_file")
    keyboard.press("Enter")
    expect(ada.answers.nth(1)).to_contain_text("has 5 bytes now")
    ada.page.get_by_role("log").focus()
    keyboard.press("Tab")
    for key, label in {"Home": "You", "ArrowDown": "clerk", "End": "clerk", "ArrowUp": "You"}.items():
        keyboard.press(key)
        assert focused(ada)["label"] == label
    assert focused(ada)["outline"] != "none"


def reach(person: Person, name: str) -> None:
    """By Tab alone, from wherever the focus is."""
    seen = []
    for _ in range(60):
        person.page.keyboard.press("Tab")
        seen.append(focused(person)["label"])
        if name in seen[-1]:
            assert focused(person)["outline"] != "none"
            return
    pytest.fail(f"{name} is not among {seen}")


def focused(person: Person) -> dict[str, str]:
    found: dict[str, str] = person.page.evaluate("""() => {
        const here = document.activeElement?.shadowRoot?.activeElement ?? document.activeElement
        const label = here.getAttribute('aria-label') ?? here.textContent
        return {label, outline: getComputedStyle(here).outlineStyle}
    }""")
    return found


def test_a_screen_reader_is_told_each_message_once(ada: Person, come: Come) -> None:
    live = ada.page.locator(".announcer")
    assert live.get_attribute("aria-live") == "polite"
    assert ada.page.get_by_role("log").get_attribute("aria-live") == "off"
    ada.page.evaluate("""() => {
        window.told = []
        const live = document.querySelector('agent-chat').shadowRoot.querySelector('.announcer')
        new MutationObserver(all => all.forEach(({addedNodes}) => addedNodes.forEach(p => told.push(p.textContent))))
            .observe(live, {childList: true, subtree: true, characterData: true})
    }""")
    ada.script({"repeat": "word ", "times": 5, "delay_ms": 20})
    expect(ada.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    ada.script({"fail": 500})
    expect(ada.answers.nth(1)).to_contain_text("The provider failed")
    omar = come("omar")
    omar.open(session=ada.session)
    expect(omar.answers).to_have_count(2)
    assert omar.heard() == [], "what was said before somebody came is not read out"
    omar.say("good day")
    expect(ada.answers.nth(2)).to_contain_text("You said: good day")
    expect(live).to_contain_text("scripted: You said: good day")
    told = ada.page.evaluate("told")
    assert re.match("You: #script", told[0])
    assert told[1] == "scripted: word word word word word "
    assert re.match("You: #script", told[2])
    assert told[3:] == ["scripted: The provider failed.", "omar: good day", "scripted: You said: good day"]


def test_an_input_method_keeps_its_enter(ada: Person) -> None:
    ada.field.fill("にほん")
    event = (
        "field => field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    ada.field.evaluate(event)
    expect(ada.field).to_have_value("にほん")
    expect(ada.said).to_have_count(0)


def test_less_motion_and_forced_colours(come: Come) -> None:
    ada = come(reduced_motion="reduce", forced_colors="active")
    ada.open()
    ada.script({"fail": "hang"})
    expect(ada.page.get_by_role("img", name="Working")).to_be_visible()
    assert ada.page.locator(".dots i").first.evaluate("dot => getComputedStyle(dot).animationName") == "none"
    ada.shot("forced-colors")
