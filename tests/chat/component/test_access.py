"""The component by keyboard, by screen reader, in both themes, on a phone and from right to left."""

import re

import pytest
from playwright.sync_api import expect

from tests.chat.component.conftest import Come, Person
from tests.chat.component.test_talk import FILE, MARKDOWN

WIDE = "```\n" + "x" * 300 + "\n```\n\n| " + " | ".join(f"column {n}" for n in range(12)) + " |\n" + "|-" * 12 + "|\n\n"
LONG_WORD = "https://example.com/" + "a" * 200
TABLE = "| الاسم | Size |\n|---|---|\n| ملف | 3 kB |"
ARABIC = f"# خطة\n\nهذه **خطة** قصيرة:\n\n1. أولا\n2. ثانيا\n\n> اقتباس\n\nو `code` هنا.\n\n{TABLE}"
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
    iris = come(color_scheme=look)
    iris.open()
    assert iris.serious() == []
    iris.shot(f"{look}-welcome")
    talk(iris)
    assert iris.serious() == []
    iris.shot(f"{look}-talk")
    other = "dark" if look == "light" else "light"
    iris.page.evaluate("theme => document.querySelector('agent-chat').setAttribute('theme', theme)", other)
    assert iris.serious() == []
    background = iris.chat.evaluate("chat => getComputedStyle(chat).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (other == "light")


def test_a_phone_of_320_pixels(come: Come) -> None:
    iris = come(viewport=PHONE, has_touch=True)
    talk(iris)
    iris.shot("phone-talk")
    iris.open()
    iris.script({"say": WIDE + LONG_WORD})
    expect(iris.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    iris.shot("phone-wide")
    log = iris.page.get_by_role("log")
    assert log.evaluate("log => log.scrollWidth <= log.clientWidth")
    assert iris.page.locator(".code pre").evaluate("code => code.scrollWidth > code.clientWidth")
    assert iris.page.locator(".table").evaluate("table => table.scrollWidth > table.clientWidth")
    assert iris.serious() == []


def test_from_right_to_left(come: Come) -> None:
    iris = come()
    iris.open(dir="rtl")
    iris.script({"say": ARABIC}, {"tool": "current_time", "args": {}}, {"say": "```python\nx = 1\n```"})
    answer = iris.answers.first
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    heading = answer.get_by_role("heading", name="خطة")
    assert heading.evaluate("heading => getComputedStyle(heading).direction") == "rtl"
    assert answer.locator("pre").last.evaluate("code => getComputedStyle(code).direction") == "ltr"
    quote = answer.locator("blockquote")
    assert quote.evaluate("quote => getComputedStyle(quote).direction") == "rtl"
    for place, cell in enumerate(answer.get_by_role("cell").all()):
        assert cell.evaluate("cell => getComputedStyle(cell).direction") == "rtl", place
    middle = iris.page.viewport_size["width"] / 2
    iris.say("مرحبا")
    expect(iris.answers.nth(1)).to_contain_text("مرحبا")
    box = iris.said.nth(1).bounding_box()
    assert box is not None
    assert box["x"] < middle, "one's own messages stand at the end side, here the left"
    iris.shot("rtl")
    assert iris.serious() == []


def test_everything_by_keyboard(come: Come) -> None:
    iris = come()
    iris.open(agent="clerk")
    keyboard = iris.page.keyboard
    iris.field.focus()
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    expect(iris.said.first.locator(".bubble")).to_have_text("one\ntwo")
    expect(iris.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    iris.script(FILE, {"say": "Written."})
    expect(iris.page.get_by_role("group", name="Approve this call?")).to_be_visible()
    reach(iris, "Approve")
    keyboard.press("Enter")
    expect(iris.answers.nth(1)).to_contain_text("Written.")
    assert focused(iris)["label"] == "clerk", "whoever has decided stays in the log"
    reach(iris, "create_file")
    keyboard.press("Enter")
    expect(iris.answers.nth(1)).to_contain_text("has 5 bytes now")
    iris.page.get_by_role("log").focus()
    keyboard.press("ArrowUp")
    assert iris.answers.nth(1).evaluate("answer => answer.matches(':focus')"), "from the log to the last message"
    for key, label in {"Home": "You", "ArrowDown": "clerk", "End": "clerk", "ArrowUp": "You"}.items():
        keyboard.press(key)
        assert focused(iris)["label"] == label
    assert focused(iris)["outline"] != "none"
    stops = iris.page.locator("article[tabindex='0'], article :is(.actions button, summary):not([tabindex='-1'])")
    assert stops.evaluate_all("all => new Set(all.map(one => one.closest('article'))).size") == 1


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


def test_a_screen_reader_is_told_each_message_once(iris: Person, come: Come) -> None:
    live = iris.page.locator(".announcer")
    assert live.get_attribute("aria-live") == "polite"
    assert iris.page.get_by_role("log").get_attribute("aria-live") == "off"
    iris.page.evaluate("""() => {
        window.told = []
        const live = document.querySelector('agent-chat').shadowRoot.querySelector('.announcer')
        new MutationObserver(all => all.forEach(({addedNodes}) => addedNodes.forEach(p => told.push(p.textContent))))
            .observe(live, {childList: true, subtree: true, characterData: true})
    }""")
    iris.script({"repeat": "word ", "times": 5, "delay_ms": 20})
    expect(iris.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    iris.script({"fail": 500})
    expect(iris.answers.nth(1)).to_contain_text("The provider failed")
    omar = come("omar")
    omar.open(session=iris.session)
    expect(omar.answers).to_have_count(2)
    assert omar.heard() == [], "what was said before somebody came is not read out"
    omar.say("good day")
    expect(iris.answers.nth(2)).to_contain_text("You said: good day")
    expect(live).to_contain_text("scripted: You said: good day")
    told = iris.page.evaluate("told")
    assert re.match("You: #script", told[0])
    assert told[1].split() == ["scripted:", *["word"] * 5]
    assert re.match("You: #script", told[2])
    assert told[3:] == ["scripted: The provider failed.", "omar: good day", "scripted: You said: good day"]


def test_an_input_method_keeps_its_enter(iris: Person) -> None:
    iris.field.fill("にほん")
    event = (
        "field => field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    iris.field.evaluate(event)
    expect(iris.field).to_have_value("にほん")
    expect(iris.said).to_have_count(0)


def test_less_motion_and_forced_colours(come: Come) -> None:
    iris = come(reduced_motion="reduce", forced_colors="active")
    iris.open()
    iris.script({"fail": "hang"})
    expect(iris.page.get_by_role("img", name="Working")).to_be_visible()
    assert iris.page.locator(".dots i").first.evaluate("dot => getComputedStyle(dot).animationName") == "none"
    iris.shot("forced-colors")
