"""The local model in its child process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from core.errors import Unavailable
from llm.exceptions import ProviderError, ProviderRejected
from llm.gateway import gateway
from llm.providers import local, shut_down
from llm.providers.base import ProviderConnection
from llm.providers.local import LocalKind, LocalServer, local_server
from llm.targets import ModelTarget
from llm.wire import ChatRequest

TARGET = ModelTarget(ProviderConnection("local", "local"), "smollm2")
ROOT = Path(__file__).resolve().parents[2]


def ask(text: str, **params: object) -> ChatRequest:
    return ChatRequest("smollm2", [{"role": "user", "content": text}], params)


def alive(pid: int) -> bool:
    """A zombie that waits for its parent's word is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_missing_packages_say_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install"):
        LocalKind().open(TARGET.connection)
    assert not LocalKind().installed()


def test_child_that_fails_is_reported_and_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.stdin.readline(); sys.exit(3)")
    monkeypatch.setattr(local, "_CHILD", child)
    server = LocalServer()
    with pytest.raises(ProviderError) as caught:
        server.ensure()
    assert caught.value.code == "local_model_failed"
    assert server.running() is None


@pytest.fixture
def _stopped() -> Iterator[None]:
    local_server.stop()
    yield
    local_server.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("_stopped")
async def test_streams_from_one_child_that_ends_with_us(settings) -> None:
    async def first_words(text: str) -> list[str]:
        async with aclosing(gateway.stream(ask(text, max_tokens=8), TARGET)) as deltas:
            return [delta.text async for delta in deltas if delta.text]

    answers = await asyncio.gather(*(first_words(f"Say hello {n}") for n in range(3)))
    assert all(len(words) > 1 for words in answers)
    running = local_server.running()
    assert running is not None
    settings.ALLOW_PRIVATE_PROVIDERS = False  # it is no address that a tenant chose
    answer = await gateway.complete(ask("Hello", max_tokens=5), TARGET)
    assert answer.usage is not None
    assert (answer.model, answer.finish_reason, answer.usage.completion_tokens) == ("smollm2", "length", 5)
    assert local_server.running() is running
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(urllib.request.urlopen, f"{running.url}/v1/models")
    assert refused.value.code == 401
    with pytest.raises(ProviderRejected) as too_long:
        await gateway.complete(ask("word " * 9000), TARGET)
    assert too_long.value.code == "context_length_exceeded"
    await shut_down()
    assert wait_for_end(running.process.pid)


@pytest.mark.slow
@pytest.mark.usefixtures("_stopped")
async def test_a_killed_child_is_started_again() -> None:
    await gateway.complete(ask("Hello", max_tokens=1), TARGET)
    first = local_server.running()
    assert first is not None
    first.process.kill()
    first.process.wait()
    answer = await gateway.complete(ask("Hello", max_tokens=1), TARGET)
    assert answer.finish_reason == "length"


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphan_outlives_its_parent(end: signal.Signals) -> None:
    code = "from llm.providers.local import local_server as s; print(s.ensure().process.pid, flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "agentsite.settings"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(end)
    parent.communicate()
    assert wait_for_end(child)
