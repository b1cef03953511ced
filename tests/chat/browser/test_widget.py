"""The example page of another origin: its visitors talk, come back, and do not see each other."""

from pathlib import Path

from playwright.sync_api import expect

from tests.chat.browser.conftest import Comes, Visitor
from tests.chat.browser.shop import key, pages, write
from tests.outside.site import Server


def visits(comes: Comes, url: str, look: str = "light") -> Visitor:
    visitor = comes(look=look)
    visitor.page.goto(url)
    return visitor


def test_a_visitor_talks_and_comes_back(comes: Comes, shop: str, look: str) -> None:
    ann = visits(comes, shop, look)
    expect(ann.composer).to_be_visible()
    ann.checked("widget-new")
    ann.say("Do you have it in blue?")
    ann.hears("You said: Do you have it in blue?")
    ann.checked("widget")
    ann.page.reload()
    ann.hears("You said: Do you have it in blue?")
    ann.say("And in red?")
    ann.hears("You said: And in red?")
    expect(ann.page.get_by_role("article")).to_have_count(4)
    fresh = ann.page.get_by_role("button", name="New conversation")
    fresh.click()
    expect(ann.page.get_by_role("article")).to_have_count(0)
    expect(ann.composer).to_be_focused()
    expect(fresh).to_be_hidden()
    assert ann.page.context.cookies() == []


def test_a_second_visitor_sees_nothing_of_the_first(comes: Comes, shop: str, server: Server) -> None:
    ann, ben = visits(comes, shop), visits(comes, shop)
    ann.say("A secret of Ann")
    ann.hears("You said: A secret of Ann")
    ben.say("Something of Ben")
    ben.hears("You said: Something of Ben")
    session = ann.page.locator("agent-chat").get_attribute("session")
    told = ben.page.evaluate(
        """async ([base, session]) => {
            const key = document.querySelector('agent-chat').getAttribute('key')
            const headers = {Authorization: `Bearer ${key}`, 'Content-Type': 'application/json'}
            const secret = Object.entries(localStorage).find(([name]) => name.endsWith(key))[1]
            const asked = {method: 'POST', headers, body: JSON.stringify({secret})}
            const visitor = await fetch(`${base}/v1/visitors`, asked)
            const as = {headers: {Authorization: `Bearer ${(await visitor.json()).token}`}}
            const one = await fetch(`${base}/v1/sessions/${session}/messages`, as)
            const all = await (await fetch(`${base}/v1/sessions`, as)).json()
            return [one.status, all.data.map(({title}) => title)]
        }""",
        [server.base_url, session],
    )
    assert told == [404, ["Something of Ben"]]
    ben.page.evaluate("id => document.querySelector('agent-chat').open(id)", session)
    expect(ben.page.get_by_text("No session with this id.").first).to_be_visible()
    expect(ben.page.get_by_text("A secret of Ann")).to_have_count(0)
    assert all("404" in fault for fault in ben.faults)
    ben.faults.clear()


def test_a_key_of_another_page_is_refused_in_words(comes: Comes, server: Server, tmp_path: Path) -> None:
    """Both pages may ask the server, each with a key of its own."""
    with pages(tmp_path) as port:
        key(server, f"http://127.0.0.1:{port}")
        write(tmp_path, server, key(server, "https://elsewhere.example"))
        eve = visits(comes, f"http://127.0.0.1:{port}/")
        eve.say("Let me in")
        expect(eve.page.get_by_text("Not sent:")).to_contain_text("origin")
        expect(eve.composer).to_have_value("Let me in")
        eve.checked("widget-refused")
    assert any("403" in fault for fault in eve.faults)
    eve.faults.clear()


def test_a_widget_whose_key_is_revoked_says_so_and_asks_no_further(
    comes: Comes, server: Server, tmp_path: Path
) -> None:
    with pages(tmp_path) as port, server.client() as http:
        write(tmp_path, server, key(server, f"http://127.0.0.1:{port}"))
        made = http.get("publishable-keys").json()["data"]
        ann = visits(comes, f"http://127.0.0.1:{port}/")
        ann.say('#script [{"repeat": "word ", "times": 3000, "delay_ms": 100}]')
        expect(ann.page.get_by_text("word word").first).to_be_visible()
        for row in made:
            if f"http://127.0.0.1:{port}" in row["origins"]:
                assert http.delete(f"publishable-keys/{row['id']}").status_code == 204
        gone = ann.page.get_by_text("This chat is not available any more.")
        expect(gone.first).to_be_visible(timeout=150_000)
        expect(ann.page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
        expect(ann.page.get_by_role("img", name="Working")).to_be_hidden()
    ann.faults.clear()  # the console says that nothing could be read


def test_a_page_that_no_key_allows_loads_no_widget(comes: Comes, shop: str) -> None:
    eve = visits(comes, shop.replace("127.0.0.1", "localhost"))
    expect(eve.page.get_by_text("The assistant cannot be reached from this page.")).to_be_visible()
    expect(eve.composer).to_have_count(0)
    eve.checked("widget-not-loaded")
    assert any("CORS" in fault for fault in eve.faults)
    eve.faults.clear()
