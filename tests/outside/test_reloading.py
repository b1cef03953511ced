"""Templates of a real server in development: edited while it serves, and while a run of them is under way."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.outside.site import Server, new_database, new_site, serving

TEMPLATE = """
from templates_app.base import AgentTemplate
from templates_app.events import Answer
from .helper import WORD


class Edited(AgentTemplate):
    slug, version, title = "edited", "1.0.0", "%(title)s"

    async def run(self, context):
        await context.model.reply(context.messages)
        yield Answer({"role": "assistant", "content": WORD}, "stop")
"""
PATIENCE = 30.0  # seconds; the goal is one, which is printed and not asserted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "edited").mkdir()
    (folder / "edited" / "helper.py").write_text("WORD = 'old'\n")
    (folder / "edited" / "__init__.py").write_text(TEMPLATE % {"title": "First"})
    return folder


@pytest.fixture(scope="module")
def http(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of acme on a server that watches the folder; its agent `edited` is active."""
    name = f"reload_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(os.environ["DATABASE_URL"], name) as url:
        site = new_site(tmp_path_factory.mktemp("reload"), url, TEMPLATE_DIRS=str(folder))
        with serving(site) as server, server.client() as client:
            _prepare(server, client, folder)
            yield client


def _prepare(server: Server, client: httpx.Client, folder: Path) -> None:
    body = {"slug": "edited", "name": "Edited", "template": "edited", "model": "scripted/default"}
    client.post("agents", json=body).raise_for_status()
    client.patch("agents/edited/status", json={"status": "active"}).raise_for_status()
    _until(lambda: "Watching templates" in server.log.read_text())
    number = 0

    def is_watched() -> bool:
        nonlocal number
        number += 1
        (folder / "edited" / "__init__.py").write_text(TEMPLATE % {"title": f"Watched {number}"})
        time.sleep(0.5)
        return _title(client).startswith("Watched")

    _until(is_watched)


def _until(holds: Callable[[], bool]) -> float:
    """Seconds until it does."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
    return time.monotonic() - began


def _title(client: httpx.Client) -> str:
    return str(client.get("templates/edited").json()["title"])


def _health(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("templates/edited/health").json()
    return found


def _asked(client: httpx.Client, *steps: dict[str, Any]) -> str:
    """What the template adds to the words of the model."""
    said = f"#script {json.dumps(steps)}" if steps else "Hello"
    body = {"model": "edited", "messages": [{"role": "user", "content": said}]}
    answer = client.post("chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"]).split()[-1]


def test_an_edit_is_used_without_a_restart(http: httpx.Client, folder: Path) -> None:
    times = []
    for number in range(10):
        (folder / "edited" / "__init__.py").write_text(TEMPLATE % {"title": f"Title {number}"})
        times.append(_until(lambda title=f"Title {number}": _title(http) == title))  # type: ignore[misc]
    print(f"\nedit to use: median {sorted(times)[5] * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms")


def test_a_run_ends_on_the_code_that_it_began_with(http: httpx.Client, folder: Path) -> None:
    answers: list[str] = []
    slow = {"repeat": "word", "times": 60, "delay_ms": 50}
    run = threading.Thread(target=lambda: answers.append(_asked(http, slow)))
    run.start()
    _until(lambda: any(each["status"] == "running" for each in _runs(http)))
    (folder / "edited" / "helper.py").write_text("WORD = 'new'\n")
    _until(lambda: _asked(http) == "new")
    assert answers == []
    run.join(PATIENCE)
    assert answers == ["old"]


def _runs(client: httpx.Client) -> list[dict[str, Any]]:
    sessions = client.get("sessions", params={"limit": 1}).json()["data"]
    return [run for each in sessions for run in client.get(f"sessions/{each['id']}/runs").json()["data"]]


def test_a_broken_edit_harms_nothing_and_says_why(http: httpx.Client, folder: Path) -> None:
    helper = folder / "edited" / "helper.py"
    good, answer = helper.read_text(), _asked(http)
    helper.write_text("WORD = (")
    _until(lambda: not _health(http)["healthy"])
    health = _health(http)
    assert health["versions"] == ["1.0.0"]
    assert "SyntaxError" in health["problems"][0]["reason"]
    assert _asked(http) == answer
    helper.write_text(good)
    _until(lambda: bool(_health(http)["healthy"]))
    assert _asked(http) == answer
