"""People at `<agent-chat>` in Debian's Chromium, on a page of a real server.

Set CHAT_SCREENSHOTS to a folder to keep a picture of everything that a test stops at.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.admin.browser.conftest import AT_REST, AXE, chromium  # noqa: F401 a fixture
from tests.outside.processes import free_port, running
from tests.outside.site import CHECKOUT, Server, Site, answers, new_database, new_site, server_command

APPLICATION = "tests.chat.component.application:application"
PASSWORD = "correct horse battery staple"
DESKTOP = {"width": 1100, "height": 800}
WAIT = 20_000  # milliseconds
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = f"chat_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(os.environ["DATABASE_URL"], name) as url:
        yield new_site(tmp_path_factory.mktemp("chat"), url, RUN_LEASE_SECONDS="3")


@contextmanager
def serving(site: Site, port: int) -> Iterator[Server]:
    base_url = f"http://127.0.0.1:{port}"
    log = site.home / f"chat-{port}.log"
    command = server_command("uvicorn", str(port), APPLICATION)
    with running(command, log=log, ready=lambda: answers(base_url), env=site.env, cwd=CHECKOUT) as process:
        yield Server(site, "uvicorn", base_url, process.pid, log)


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Server]:
    with serving(site, free_port()) as server:
        make_people(server)
        yield server


def make_people(server: Server) -> None:
    """Iris and Omar, who work in acme, and an agent that asks before it writes a file."""
    with server.client() as http:
        for name in ("iris", "omar"):
            body = {"username": name, "role": "operator", "password": PASSWORD}
            assert http.post("members", json=body).status_code == 201
        files = {"slug": "careful", "name": "Files", "kind": "files", "policy": {"approval": "side_effects"}}
        assert http.post("toolsets", json=files).status_code == 201
        clerk = {"slug": "clerk", "name": "Clerk", "template": "conversation", "model": "scripted/default"}
        assert http.post("agents", json={**clerk, "toolsets": ["careful"]}).status_code == 201
        assert http.patch("agents/clerk/status", json={"status": "active"}).status_code == 200


class Person:
    """Somebody at the component. `faults` collects what the console says, and requests elsewhere."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.page: Page = context.new_page()
        self.server = server
        self.faults: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.server.base_url, "data:")):
            self.faults.append(f"asked {request.url}")

    def sign_in(self, name: str) -> None:
        self.page.goto(f"{self.server.base_url}/admin/login/")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_load_state()
        self.faults.clear()

    def open(self, **attributes: str) -> None:
        """The page with the component; without a `session`, one is made with the first message."""
        self.arrive(**{"tenant": "acme", "agent": "scripted", "fork": "", **attributes})
        expect(self.field).to_be_visible()

    def arrive(self, **attributes: str) -> None:
        self.page.goto(f"{self.server.base_url}/component?{urlencode(attributes)}")

    @property
    def chat(self) -> Locator:
        return self.page.locator("agent-chat")

    @property
    def session(self) -> str:
        return self.chat.get_attribute("session") or ""

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def said(self) -> Locator:
        return self.page.locator("article.said")

    @property
    def answers(self) -> Locator:
        return self.page.locator("article.answer")

    def say(self, text: str) -> None:
        self.field.fill(text)
        self.field.press("Enter")

    def script(self, *steps: dict[str, Any]) -> None:
        self.say("#script " + json.dumps(steps))

    def heard(self) -> list[str]:
        """What a screen reader was told."""
        return self.page.locator(".announcer p").all_inner_texts()

    def rest(self) -> None:
        self.page.evaluate(AT_REST)

    def shot(self, name: str) -> None:
        """Nothing may stick out of the window; a picture is kept where one is wanted."""
        self.rest()
        assert self.page.viewport_size is not None
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.page.viewport_size["width"], f"{name} is {width} px wide"
        if folder := os.environ.get("CHAT_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def serious(self) -> list[str]:
        """axe's serious and critical findings by WCAG 2.2 AA."""
        self.rest()
        # By the debugger, which the page's policy of trusted types does not bind.
        self.page.context.new_cdp_session(self.page).send("Runtime.evaluate", {"expression": AXE.read_text()})
        found = self.page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS)
        return [
            f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]


Come = Callable[..., Person]


@pytest.fixture
def come(chromium: Browser, server: Server) -> Iterator[Come]:  # noqa: F811
    """Somebody comes, by name or as a stranger, with options of the browser; in the end nothing has gone wrong."""
    here: list[tuple[BrowserContext, Person]] = []

    def coming(name: str | None = "iris", at: Server = server, **options: Any) -> Person:
        context = chromium.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(WAIT)
        person = Person(context, at)
        here.append((context, person))
        if name is not None:
            person.sign_in(name)
        return person

    expect.set_options(timeout=WAIT)
    try:
        yield coming
        assert [person.faults for _, person in here] == [[] for _ in here]
    finally:
        for context, _ in here:
            context.close()


@pytest.fixture
def iris(come: Come) -> Person:
    person = come()
    person.open()
    return person
