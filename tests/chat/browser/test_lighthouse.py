"""Google's Lighthouse looks at the chat page, its sign-in and the example of a widget."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chat.browser.conftest import Comes
from tests.outside.site import CHECKOUT, Server

LIGHTHOUSE = CHECKOUT / "tests" / "js" / "node_modules" / "lighthouse" / "cli" / "index.js"


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None or not LIGHTHOUSE.exists():
        pytest.fail("Install Node.js 20 or newer, then run `npm ci` in tests/js (start.py test does it).")
    return found


def scores(node: str, url: str, tmp_path: Path, cookie: str = "") -> dict[str, Any]:
    """By category, and what was found wanting."""
    out = tmp_path / "lighthouse.json"
    command = [node, str(LIGHTHOUSE), url, "--quiet", "--output=json", f"--output-path={out}"]
    command += ["--only-categories=accessibility,best-practices", "--chrome-flags=--headless=new --no-sandbox"]
    if cookie:
        command.append(f"--extra-headers={json.dumps({'Cookie': cookie})}")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CHROME_PATH": shutil.which("chromium") or ""}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(out.read_text())
    assert told.get("runtimeError") is None
    assert told["finalDisplayedUrl"].startswith(url.rstrip("/")), told["finalDisplayedUrl"]
    wanting = [name for name, audit in told["audits"].items() if audit["score"] == 0]
    return {"wanting": wanting, **{name: found["score"] for name, found in told["categories"].items()}}


def good(found: dict[str, Any]) -> bool:
    return bool(found["accessibility"] == 1 and found["best-practices"] >= 0.95)


def test_the_sign_in(node: str, server: Server, tmp_path: Path) -> None:
    found = scores(node, f"{server.base_url}/chat/login/", tmp_path)
    assert good(found), found


def test_the_page_and_a_conversation(node: str, comes: Comes, server: Server, tmp_path: Path) -> None:
    ada = comes("ada")
    session = ada.talk("Under the light")
    cookie = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in ada.page.context.cookies())
    for path in ("/chat/", f"/chat/s/{session}"):
        found = scores(node, server.base_url + path, tmp_path, cookie)
        assert good(found), (path, found)


def test_the_example_of_a_widget(node: str, shop: str, tmp_path: Path) -> None:
    found = scores(node, shop, tmp_path)
    assert good(found), found
