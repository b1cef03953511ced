"""What people do in the component: talk, stop, try again, edit, decide, and see each other."""

import re

from playwright.sync_api import expect

from tests.chat.component.conftest import Come, Person

MARKDOWN = """# A plan

Some **strong** and `inline` words, and [a link](https://example.com/x).

| Name | Amount |
|------|-------:|
| Apples | 12 |

```python
print("hello")
```

- [x] done

![A chart](https://example.com/chart.png)
"""
FILE = {"tool": "create_file", "args": {"filename": "a.txt", "content": "Hello"}}


def test_an_answer_streams_into_a_new_session(ada: Person) -> None:
    events = "window.told = []; addEventListener('agent-chat-session', ({detail}) => told.push(detail.id))"
    ada.page.evaluate(events)
    ada.script({"repeat": "word ", "times": 60, "delay_ms": 30})
    answer = ada.answers.first
    expect(answer).to_contain_text("word word")
    growing = len(answer.inner_text())
    expect(ada.page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    assert 0 < growing < len(answer.inner_text())
    expect(ada.page.get_by_role("button", name="Stop")).to_be_hidden()
    assert ada.page.evaluate("told") == [ada.session]
    expect(ada.field).to_have_value("")


def test_markdown_is_shown_and_its_code_copied(ada: Person) -> None:
    ada.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ada.script({"say": MARKDOWN})
    answer = ada.answers.first
    expect(answer.get_by_role("heading", name="A plan")).to_be_visible()
    expect(answer.get_by_role("cell", name="Apples")).to_be_visible()
    expect(answer.get_by_role("checkbox")).to_be_checked()
    link = answer.get_by_role("link", name="a link")
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert link.get_attribute("target") == "_blank"
    expect(answer.get_by_role("link", name="Image: A chart")).to_be_visible()
    assert answer.locator("img").count() == 0
    answer.get_by_role("button", name="Copy code").click()
    assert ada.page.evaluate("navigator.clipboard.readText()") == 'print("hello")'
    answer.get_by_role("button", name="Copy", exact=True).click()
    assert ada.page.evaluate("navigator.clipboard.readText()") == MARKDOWN
    ada.shot("markdown")


def test_the_answer_is_stopped_by_the_key_and_the_next_has_its_turn(ada: Person) -> None:
    ada.script({"repeat": "word ", "times": 2000, "delay_ms": 50})
    expect(ada.answers.first).to_contain_text("word word")
    ada.say("and then?")
    expect(ada.said.nth(1)).to_contain_text("Waits for the answer before it")
    ada.shot("waiting")
    ada.field.press("Escape")
    expect(ada.answers.first).to_contain_text("Stopped")
    expect(ada.answers.nth(1)).to_contain_text("You said: and then?")
    ada.shot("stopped")


def test_what_failed_is_tried_again_in_its_place(ada: Person) -> None:
    ada.script({"fail": 500})
    failed = ada.answers.first
    expect(failed).to_contain_text("The provider failed")
    ada.shot("failed")
    failed.get_by_role("button", name="Try again").click()
    expect(ada.said).to_have_count(1)
    expect(failed.get_by_role("button", name="Try again")).to_be_visible()
    ada.open(session=ada.session)
    expect(ada.answers.first.get_by_role("button", name="Try again")).to_be_visible()


def test_answering_again_and_sending_again_replace_what_was_said(ada: Person) -> None:
    ada.say("one")
    expect(ada.answers.first).to_contain_text("You said: one")
    first = ada.answers.first.element_handle()
    ada.answers.first.get_by_role("button", name="Answer again").click()
    ada.page.wait_for_function("old => !old.isConnected", arg=first)
    expect(ada.answers.first).to_contain_text("You said: one")
    ada.said.first.hover()
    ada.said.first.get_by_role("button", name="Edit").click()
    field = ada.page.get_by_role("textbox", name="Edit")
    expect(field).to_have_value("one")
    field.fill("two")
    field.press("Enter")
    expect(ada.answers).to_have_count(1)
    expect(ada.answers.first).to_contain_text("You said: two")
    expect(ada.said).to_have_count(1)
    ada.open(session=ada.session)
    expect(ada.answers).to_have_count(1)
    expect(ada.said.first).to_contain_text("two")


def test_what_the_server_does_not_take_is_written_back(ada: Person) -> None:
    ada.say("x" * 1_200_000)
    expect(ada.page.get_by_role("alert").first).to_contain_text("Not sent")
    assert len(ada.field.input_value()) == 1_200_000
    expect(ada.said).to_have_count(0)
    ada.faults.clear()
    ada.say("short")
    expect(ada.answers.first).to_contain_text("You said: short")


def test_a_call_is_changed_and_approved(ada: Person) -> None:
    ada.open(agent="clerk")
    ada.script({"say": "I write."}, FILE, {"say": "Written."})
    form = ada.page.get_by_role("group", name="Approve this call?")
    arguments = form.get_by_role("textbox", name=re.compile("Arguments"))
    expect(arguments).to_have_value('{\n  "filename": "a.txt",\n  "content": "Hello"\n}')
    ada.shot("approval")
    arguments.fill("{")
    form.get_by_role("button", name="Approve").click()
    expect(form.get_by_role("alert")).to_contain_text("not a JSON object")
    arguments.fill('{"filename": "b.txt", "content": "Good day"}')
    form.get_by_role("button", name="Approve").click()
    answer = ada.answers.first
    expect(answer).to_contain_text("Approved with changes by ada")
    expect(answer).to_contain_text("Written.")
    answer.locator("summary", has_text="create_file").click()
    expect(answer).to_contain_text("'b.txt' has 8 bytes now.")
    ada.shot("approved")


def test_a_call_is_denied_and_the_other_page_sees_by_whom(ada: Person, come: Come) -> None:
    ada.open(agent="clerk")
    ada.script(FILE, {"say": "Well then."})
    form = ada.page.get_by_role("group", name="Approve this call?")
    expect(form).to_be_visible()
    omar = come("omar")
    omar.open(session=ada.session)
    theirs = omar.page.get_by_role("group", name="Approve this call?")
    theirs.get_by_role("textbox", name="Comment").fill("not today")
    theirs.get_by_role("button", name="Deny").click()
    expect(ada.answers.first).to_contain_text("Denied by omar: not today")
    expect(ada.answers.first).to_contain_text("Well then.")


def test_two_people_see_each_other_and_one_stream(ada: Person, come: Come) -> None:
    ada.say("hello")
    expect(ada.answers.first).to_contain_text("You said: hello")
    omar = come("omar")
    omar.open(session=ada.session)
    expect(omar.said.first.locator(".author")).to_have_text("ada")
    expect(omar.said.first).not_to_have_class(re.compile("mine"))
    expect(omar.page.get_by_role("list", name="Here now: ada")).to_be_visible()
    omar.field.press_sequentially("hm")
    expect(ada.page.get_by_text("omar is typing")).to_be_visible()
    ada.shot("presence")
    omar.field.fill("")
    omar.script({"repeat": "word ", "times": 20, "delay_ms": 20})
    for person in (ada, omar):
        expect(person.answers).to_have_count(2)
        expect(person.answers.nth(1)).to_contain_text("word " * 19)
    expect(ada.said.nth(1).locator(".author")).to_have_text("omar")
    expect(omar.said.nth(1)).to_have_class(re.compile("mine"))
    ada.shot("two-people")


def test_a_reader_stays_where_they_are_and_jumps_to_the_newest(ada: Person) -> None:
    ada.script({"say": "line\n\n" * 60})
    expect(ada.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    ada.script({"repeat": "word ", "times": 300, "delay_ms": 20})
    expect(ada.answers.nth(1)).to_contain_text("word")
    log = ada.page.get_by_role("log")
    log.evaluate("log => { log.scrollTop = 100 }")
    newest = ada.page.get_by_role("button", name="Jump to newest")
    expect(newest).to_be_visible()
    expect(ada.answers.nth(1)).to_contain_text("word " * 250)
    assert log.evaluate("log => log.scrollTop") == 100
    newest.click()
    expect(newest).to_be_hidden()
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 48


def test_an_answer_is_rated_and_forked(ada: Person) -> None:
    ada.page.evaluate("addEventListener('agent-chat-fork', ({detail}) => { window.forked = detail })")
    ada.say("hello")
    good = ada.answers.first.get_by_role("button", name="Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    ada.open(session=ada.session)
    expect(good).to_have_attribute("aria-pressed", "true")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    ada.page.evaluate("addEventListener('agent-chat-fork', ({detail}) => { window.forked = detail })")
    ada.answers.first.get_by_role("button", name="Go on from here").click()
    assert ada.page.evaluate("forked.seq") == 2
    assert ada.page.evaluate("forked.session") == ada.session


def test_words_and_colours_are_the_pages(ada: Person) -> None:
    ada.page.evaluate("document.querySelector('agent-chat').strings = {placeholder: 'Schreiben Sie'}")
    expect(ada.page.get_by_placeholder("Schreiben Sie")).to_be_visible()
    ada.page.evaluate("document.querySelector('agent-chat').style.setProperty('--agent-chat-accent', 'rgb(1, 2, 3)')")
    ada.field.fill("x")
    colour = ada.page.get_by_role("button", name="Send").evaluate("button => getComputedStyle(button).backgroundColor")
    assert colour == "rgb(1, 2, 3)"
