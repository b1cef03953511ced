"""A real server with the demo data, and Debian's Chromium in three looks: light, dark and a phone.

Set ADMIN_SCREENSHOTS to a folder to keep a picture of every page that a test stops at.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.outside.site import CHECKOUT, Server, new_database, new_site, serving

AXE = CHECKOUT / "tests" / "js" / "node_modules" / "axe-core" / "axe.min.js"
AT_REST = """async () => {
    const frame = () => new Promise(requestAnimationFrame)
    const ends = ({playState, effect}) => playState === 'running' && Number.isFinite(effect.getComputedTiming().endTime)
    const moving = () => document.getAnimations().filter(ends).map(moving => moving.finished)
    do {
        await Promise.allSettled(moving())
        await frame(), await frame() // what has just been asked to move does so from the next frame on
    } while (moving().length)
}"""
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1360, "height": 850}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1360, "height": 850}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name = f"browser_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(os.environ["DATABASE_URL"], name) as url:
        site = new_site(tmp_path_factory.mktemp("browser"), url)
        with serving(site) as server:
            yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Ends with the module: while it is open, its event loop keeps Django's ORM out of this thread."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Install Chromium: apt-get install chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Operator:
    """Somebody signed in, at one look. `faults` collects what the console says and what the server refuses."""

    def __init__(self, page: Page, server: Server, look: str) -> None:
        self.page, self.server, self.look = page, server, look
        self.faults: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{self.page.url}: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def sign_in(self, path: str = "/") -> None:
        admin = self.server.site.demo()["admin"]
        self.page.goto(self.server.base_url + path)
        self.page.fill("#id_username", admin["username"])
        self.page.fill("#id_password", admin["password"])
        self.page.click("button[type=submit]")
        self.page.wait_for_load_state()

    def open(self, path: str, tenant: str = "acme") -> None:
        self.page.goto(f"{self.server.base_url}/t/{tenant}/admin/{path}")

    def action(self, name: str) -> None:
        """Press an action of the page's header, which a phone keeps behind a menu."""
        if self.look == "phone":
            self.page.locator("a[href='#']:has-text('more_horiz')").first.click()
        self.page.locator(f"li a:has-text('{name}')").first.click()
        self.page.wait_for_load_state()

    def shot(self, name: str) -> None:
        """Nothing may stick out of the window; a picture is kept where one is wanted."""
        self.page.wait_for_timeout(200)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= LOOKS[self.look]["viewport"]["width"], f"{name} is {width} px wide"
        if folder := os.environ.get("ADMIN_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{self.look}-{name}.png", full_page=True)

    def serious(self) -> list[str]:
        """axe's serious and critical findings by WCAG 2.2 AA, once nothing on the page moves."""
        self.page.evaluate(AT_REST)
        self.page.evaluate(AXE.read_text())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        found = self.page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags)
        return [
            f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]


@pytest.fixture(scope="module")
def cookies(chromium: Browser, server: Server) -> Any:
    """Of one sign-in, for all tests."""
    with operator_in(chromium, server, "light", None) as operator:
        operator.sign_in()
        return operator.page.context.storage_state()


@contextmanager
def operator_in(chromium: Browser, server: Server, look: str, cookies: Any) -> Iterator[Operator]:
    context = chromium.new_context(**LOOKS[look], storage_state=cookies)
    context.set_default_timeout(10_000)
    operator = Operator(context.new_page(), server, look)
    try:
        yield operator
        assert operator.faults == []
    finally:
        context.close()


@pytest.fixture
def desktop(chromium: Browser, server: Server, cookies: Any) -> Iterator[Operator]:
    with operator_in(chromium, server, "light", cookies) as operator:
        yield operator


@pytest.fixture
def phone(chromium: Browser, server: Server, cookies: Any) -> Iterator[Operator]:
    with operator_in(chromium, server, "phone", cookies) as operator:
        yield operator


@pytest.fixture(params=list(LOOKS))
def operator(request: pytest.FixtureRequest, chromium: Browser, server: Server, cookies: Any) -> Iterator[Operator]:
    """Signed in, at each look; a console error or a refused request fails the test."""
    with operator_in(chromium, server, request.param, cookies) as operator:
        yield operator
