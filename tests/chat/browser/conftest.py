"""A real server with the demo's people, and browsers in which they sit side by side.

Set CHAT_SCREENSHOTS to a folder to keep a picture of every state that a test stops at.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.admin.browser.conftest import AT_REST, AXE, chromium
from tests.chat.browser.shop import shop
from tests.outside.site import Server, Site, new_database, new_site, serving

__all__ = ["chromium", "shop"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
    "phone-dark": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
}
SESSION = re.compile(r"/chat/s/[0-9a-f-]{36}$")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = f"chat_page_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(os.environ["DATABASE_URL"], name) as url:
        yield new_site(tmp_path_factory.mktemp("chat"), url)


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as server:
        yield server


class Visitor:
    """Somebody in a browser of their own. `faults` collects what the console says and what the server refuses."""

    def __init__(self, page: Page, server: Server, look: str) -> None:
        self.page, self.server, self.look = page, server, look
        self.faults: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("response", self._response)

    def _console(self, message: Any) -> None:
        left = "closed before the connection is established" in message.text  # on to the next conversation
        if message.type in ("error", "warning") and not left:
            self.faults.append(f"{self.page.url}: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def goto(self, path: str) -> None:
        self.page.goto(self.server.base_url + path)

    def sign_in(self, name: str, path: str = "/chat/") -> None:
        people = self.server.site.demo()["people"]
        password = next(person["password"] for person in people if person["username"] == name)
        self.goto(path)
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.locator("#app")).to_be_visible()

    @property
    def composer(self) -> Any:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def title(self) -> Any:
        return self.page.locator("#title")

    @property
    def listed(self) -> Any:
        """The conversations in the list."""
        return self.page.locator("#list ul a")

    def say(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Enter")

    def talk(self, text: str) -> str:
        """Say it in a new conversation; its id, once the answer is there."""
        self.say(text)
        self.page.wait_for_url(SESSION)
        self.hears(f"You said: {text}")
        expect(self.title).to_have_text(text)
        return self.session

    @property
    def session(self) -> str:
        return self.page.url.rsplit("/", 1)[1]

    def hears(self, text: str) -> None:
        expect(self.page.locator("agent-chat").get_by_text(text, exact=True).first).to_be_visible()

    def choose(self, action: str) -> None:
        """An entry of the menu of the conversation that is open."""
        self.page.get_by_role("button", name="Actions of this conversation").click()
        self.page.get_by_role("menuitem", name=action, exact=True).click()

    def notice(self, text: str) -> None:
        expect(self.page.locator("#notice")).to_have_text(text)

    def shot(self, name: str) -> None:
        """Nothing may stick out of the window; a picture is kept where one is wanted."""
        self.page.evaluate(AT_REST)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= LOOKS[self.look]["viewport"]["width"], f"{name} is {width} px wide"
        if folder := os.environ.get("CHAT_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}-{self.look}.png")

    def serious(self) -> list[str]:
        """axe's serious and critical findings by WCAG 2.2 AA, once nothing on the page moves."""
        self.page.evaluate(AT_REST)
        self.page.evaluate(AXE.read_text())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = self.page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags)
        return [
            f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def checked(self, name: str) -> None:
        self.shot(name)
        assert self.serious() == []


@contextmanager
def visitor_in(chromium: Browser, server: Server, look: str = "light", **options: Any) -> Iterator[Visitor]:
    context = chromium.new_context(**LOOKS[look], **options)
    context.set_default_timeout(15_000)
    visitor = Visitor(context.new_page(), server, look)
    try:
        yield visitor
    finally:
        context.close()


Comes = Callable[..., Visitor]


@pytest.fixture
def comes(chromium: Browser, server: Server) -> Iterator[Comes]:
    """`comes()` is somebody new, `comes("ada")` somebody who has signed in. What any of them meets as a fault fails the
    test, but for what it takes out of `faults`.
    """
    here: list[Visitor] = []
    with ExitStack() as stack:

        def come(name: str | None = None, look: str = "light", **options: Any) -> Visitor:
            visitor = stack.enter_context(visitor_in(chromium, server, look, **options))
            here.append(visitor)
            if name:
                visitor.sign_in(name)
            return visitor

        yield come
        assert [fault for visitor in here for fault in visitor.faults] == []


@pytest.fixture(params=list(LOOKS))
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)
