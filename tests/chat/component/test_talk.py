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


def test_an_answer_streams_into_a_new_session(iris: Person) -> None:
    events = "window.told = []; addEventListener('agent-chat-session', ({detail}) => told.push(detail.id))"
    iris.page.evaluate(events)
    iris.script({"repeat": "word ", "times": 60, "delay_ms": 30})
    answer = iris.answers.first
    expect(answer).to_contain_text("word word")
    growing = len(answer.inner_text())
    expect(iris.page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    assert 0 < growing < len(answer.inner_text())
    expect(iris.page.get_by_role("button", name="Stop")).to_be_hidden()
    assert iris.page.evaluate("told") == [iris.session]
    expect(iris.field).to_have_value("")


def test_markdown_is_shown_and_its_code_copied(iris: Person) -> None:
    iris.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    iris.script({"say": MARKDOWN})
    answer = iris.answers.first
    expect(answer.get_by_role("heading", name="A plan")).to_be_visible()
    expect(answer.get_by_role("cell", name="Apples")).to_be_visible()
    expect(answer.get_by_role("checkbox")).to_be_checked()
    link = answer.get_by_role("link", name="a link")
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert link.get_attribute("target") == "_blank"
    expect(answer.get_by_role("link", name="Image: A chart")).to_be_visible()
    assert answer.locator("img").count() == 0
    answer.get_by_role("button", name="Copy code").click()
    assert iris.page.evaluate("navigator.clipboard.readText()") == 'print("hello")'
    answer.get_by_role("button", name="Copy", exact=True).click()
    assert iris.page.evaluate("navigator.clipboard.readText()") == MARKDOWN
    iris.shot("markdown")


def test_the_answer_is_stopped_by_the_key_and_the_next_has_its_turn(iris: Person) -> None:
    iris.script({"repeat": "word ", "times": 2000, "delay_ms": 50})
    expect(iris.answers.first).to_contain_text("word word")
    iris.say("and then?")
    expect(iris.said.nth(1)).to_contain_text("Waits for the answer before it")
    iris.shot("waiting")
    iris.field.press("Escape")
    expect(iris.answers.first).to_contain_text("Stopped")
    expect(iris.answers.nth(1)).to_contain_text("You said: and then?")
    iris.shot("stopped")


def test_what_failed_is_tried_again_in_its_place(iris: Person) -> None:
    iris.script({"fail": 500})
    failed = iris.answers.first
    expect(failed).to_contain_text("The provider failed")
    iris.shot("failed")
    failed.get_by_role("button", name="Try again").click()
    expect(iris.said).to_have_count(1)
    expect(failed.get_by_role("button", name="Try again")).to_be_visible()
    iris.open(session=iris.session)
    expect(iris.answers.first.get_by_role("button", name="Try again")).to_be_visible()


def test_answering_again_and_sending_again_replace_what_was_said(iris: Person) -> None:
    iris.say("one")
    expect(iris.answers.first).to_contain_text("You said: one")
    first = iris.answers.first.element_handle()
    iris.answers.first.get_by_role("button", name="Answer again").click()
    iris.page.wait_for_function("old => !old.isConnected", arg=first)
    expect(iris.answers.first).to_contain_text("You said: one")
    iris.said.first.hover()
    iris.said.first.get_by_role("button", name="Edit").click()
    field = iris.page.get_by_role("textbox", name="Edit")
    expect(field).to_have_value("one")
    field.fill("two")
    field.press("Enter")
    expect(iris.answers).to_have_count(1)
    expect(iris.answers.first).to_contain_text("You said: two")
    expect(iris.said).to_have_count(1)
    iris.open(session=iris.session)
    expect(iris.answers).to_have_count(1)
    expect(iris.said.first).to_contain_text("two")
    iris.say("three")
    expect(iris.answers.nth(1).get_by_role("button", name="Answer again")).to_be_visible()
    iris.said.first.hover()
    iris.said.first.get_by_role("button", name="Edit").click()
    field.fill("four")
    field.press("Enter")
    expect(iris.said.first.get_by_role("alert")).to_have_text("This replaces 4 messages.")
    field.press("Enter")
    expect(iris.said).to_have_count(2)
    iris.said.first.get_by_role("button", name="Replace").click()
    expect(iris.answers.first).to_contain_text("You said: four")
    expect(iris.said).to_have_count(1)


def test_what_the_server_does_not_take_is_written_back(iris: Person) -> None:
    iris.say("one")
    expect(iris.answers.first).to_contain_text("You said: one")
    with iris.server.client() as http:
        http.patch(f"sessions/{iris.session}", json={"status": "closed"})
        iris.say("two")
        expect(iris.page.get_by_role("alert").first).to_contain_text("Not sent: The session is closed")
        expect(iris.field).to_have_value("two")
        expect(iris.said).to_have_count(1)
        iris.shot("not-sent")
        http.patch(f"sessions/{iris.session}", json={"status": "open"})
    iris.field.press("Enter")
    expect(iris.answers.nth(1)).to_contain_text("You said: two")


def test_a_call_is_changed_and_approved(iris: Person) -> None:
    iris.open(agent="clerk")
    iris.script({"say": "I write."}, FILE, {"say": "Written."})
    form = iris.page.get_by_role("group", name="Approve this call?")
    arguments = form.get_by_role("textbox", name=re.compile("Arguments"))
    expect(arguments).to_have_value('{\n  "filename": "a.txt",\n  "content": "Hello"\n}')
    iris.shot("approval")
    arguments.fill("{")
    form.get_by_role("button", name="Approve").click()
    expect(form.get_by_role("alert")).to_contain_text("not a JSON object")
    arguments.fill('{"filename": "b.txt", "content": "Good day"}')
    form.get_by_role("button", name="Approve").click()
    answer = iris.answers.first
    expect(answer).to_contain_text("Approved with changes by iris")
    expect(answer).to_contain_text("Written.")
    answer.locator("summary", has_text="create_file").click()
    expect(answer).to_contain_text("'b.txt' has 8 bytes now.")
    iris.shot("approved")


def test_a_call_is_denied_and_the_other_page_sees_by_whom(iris: Person, come: Come) -> None:
    iris.open(agent="clerk")
    iris.script(FILE, {"say": "Well then."})
    form = iris.page.get_by_role("group", name="Approve this call?")
    expect(form).to_be_visible()
    omar = come("omar")
    omar.open(session=iris.session)
    theirs = omar.page.get_by_role("group", name="Approve this call?")
    theirs.get_by_role("textbox", name="Comment").fill("not today")
    theirs.get_by_role("button", name="Deny").click()
    expect(iris.answers.first).to_contain_text("Denied by omar: not today")
    expect(iris.answers.first).to_contain_text("Well then.")
    expect(iris.answers.first.locator(".tool .fold-state")).to_have_text("denied")


def test_two_people_see_each_other_and_one_stream(iris: Person, come: Come) -> None:
    iris.say("hello")
    expect(iris.answers.first).to_contain_text("You said: hello")
    omar = come("omar")
    omar.open(session=iris.session)
    expect(omar.said.first.locator(".author")).to_have_text("iris")
    expect(omar.said.first).not_to_have_class(re.compile("mine"))
    expect(omar.page.get_by_role("list", name="Here now: iris")).to_be_visible()
    omar.field.press_sequentially("hm")
    expect(iris.page.get_by_text("omar is typing")).to_be_visible()
    iris.shot("presence")
    omar.field.fill("")
    omar.script({"repeat": "word ", "times": 20, "delay_ms": 20})
    for person in (iris, omar):
        expect(person.answers).to_have_count(2)
        expect(person.answers.nth(1)).to_contain_text("word " * 19)
    expect(iris.said.nth(1).locator(".author")).to_have_text("omar")
    expect(omar.said.nth(1)).to_have_class(re.compile("mine"))
    iris.shot("two-people")


def test_a_reader_stays_where_they_are_and_jumps_to_the_newest(iris: Person) -> None:
    iris.script({"say": "line\n\n" * 60})
    expect(iris.answers.first.get_by_role("button", name="Answer again")).to_be_visible()
    iris.script({"repeat": "word ", "times": 300, "delay_ms": 20})
    expect(iris.answers.nth(1)).to_contain_text("word")
    log = iris.page.get_by_role("log")
    log.evaluate("log => { log.scrollTop = 100 }")
    newest = iris.page.get_by_role("button", name="Jump to newest")
    expect(newest).to_be_visible()
    expect(iris.answers.nth(1)).to_contain_text("word " * 250)
    assert log.evaluate("log => log.scrollTop") == 100
    newest.click()
    expect(newest).to_be_hidden()
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 48


def test_an_answer_is_rated_and_forked(iris: Person) -> None:
    iris.page.evaluate("addEventListener('agent-chat-fork', ({detail}) => { window.forked = detail })")
    iris.say("hello")
    good = iris.answers.first.get_by_role("button", name="Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    iris.open(session=iris.session)
    expect(good).to_have_attribute("aria-pressed", "true")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    iris.page.evaluate("addEventListener('agent-chat-fork', ({detail}) => { window.forked = detail })")
    iris.answers.first.get_by_role("button", name="Go on from here").click()
    assert iris.page.evaluate("forked.seq") == 2
    assert iris.page.evaluate("forked.session") == iris.session


def test_words_and_colours_are_the_pages(iris: Person) -> None:
    iris.page.evaluate("document.querySelector('agent-chat').strings = {placeholder: 'Schreiben Sie'}")
    expect(iris.page.get_by_placeholder("Schreiben Sie")).to_be_visible()
    iris.page.evaluate("document.querySelector('agent-chat').style.setProperty('--agent-chat-accent', 'rgb(1, 2, 3)')")
    iris.field.fill("x")
    colour = iris.page.get_by_role("button", name="Send").evaluate("button => getComputedStyle(button).backgroundColor")
    assert colour == "rgb(1, 2, 3)"
