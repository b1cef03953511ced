"""The pages of examples/frontends in a real browser: what is typed is answered as it is said."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.outside.conftest import JAVASCRIPT
from tests.outside.processes import free_port, running
from tests.outside.site import CHECKOUT, Server, Site, serving

EXAMPLES = CHECKOUT / "examples" / "frontends"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/package.json"))
HANGS = '#script [{"say": "half an answer"}, {"fail": "hang"}]'


@contextmanager
def backend(node: str, name: str, server: Server, folder: Path, port: int) -> Iterator[str]:
    """The example, built and served as its package.json says, with the packages of tests/js."""
    copy = folder / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("node_modules", "built"))
    (copy / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    subprocess.run(["npm", "run", "build"], cwd=copy, check=True, capture_output=True)
    env = {**os.environ, "API_KEY": server.site.key("acme"), "BASE_URL": server.base_url, "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with running([node, "server.js"], log=folder / f"{name}.log", ready=lambda: _answers(url), cwd=copy, env=env):
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def page() -> Iterator[Page]:
    """Whatever goes wrong in it, and whatever it wants from elsewhere, fails the test."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Install Chromium: apt-get install chromium.")
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if "127.0.0.1" in request.url else faults.append(request.url))
        yield page
        browser.close()
    assert [fault for fault in faults if not fault.startswith("data:")] == []


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(site: Site, port: int) -> Iterator[Server]:
    """A server of the site that lets the page open sockets."""
    origin = f"http://127.0.0.1:{port}"
    with serving(replace(site, env={**site.env, "SOCKET_ORIGINS": origin})) as server:
        yield server


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def sees(page: Page, text: str) -> None:
    expect(page.get_by_role("log").get_by_text(text, exact=True)).to_be_visible(timeout=20_000)


def cancel_open(server: Server) -> None:
    with server.client() as http:
        (session, *_) = http.get("sessions").json()["data"]
        (run, *_) = http.get(f"sessions/{session['id']}/runs").json()["data"]
        assert http.post(f"runs/{run['id']}/cancel").json()["status"] == "cancelled"


def test_the_page_of_ag_uis_client(node: str, served: Server, page: Page, port: int, tmp_path: Path) -> None:
    with backend(node, "ag-ui-websocket", served, tmp_path, port) as url:
        page.goto(url)
        say(page, "Hello")
        sees(page, "You said: Hello")
        say(page, HANGS)
        sees(page, "half an answer")
        cancel_open(served)
        sees(page, "The run was cancelled.")
        say(page, "And now?")
        sees(page, "You said: And now?")


def test_the_page_of_the_ai_sdk(node: str, served: Server, page: Page, port: int, tmp_path: Path) -> None:
    with backend(node, "vercel-ai", served, tmp_path, port) as url:
        page.goto(url)
        say(page, "Hello")
        sees(page, "You said: Hello")
        say(page, HANGS)
        sees(page, "half an answer")
        page.reload()
        sees(page, "half an answer")
        cancel_open(served)
        say(page, '#script [{"tool": "current_time", "args": {}}, {"say": "It is late."}]')
        sees(page, "It is late.")
        expect(page.get_by_role("log")).to_contain_text("current_time({})")


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_have_the_packages_that_are_tested(name: str) -> None:
    """Whose versions the lock of tests/js holds."""
    wanted: dict[str, Any] = json.loads((EXAMPLES / name / "package.json").read_text())
    tested: dict[str, Any] = json.loads((JAVASCRIPT / "package.json").read_text())
    known = {**tested["dependencies"], **tested["devDependencies"]}
    asked = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert {package: known.get(package) for package in asked} == asked
