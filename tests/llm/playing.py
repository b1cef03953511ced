"""A provider on loopback that says what a test tells it to, whatever it is asked, and keeps what it was asked."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from aiohttp import web

from llm.gateway import gateway
from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from llm.wire import Accumulator, ChatRequest, Completion
from tests.llm.upstream import served

USER = {"role": "user", "content": "Hi"}


class Player:
    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self.closed_at = 0.0
        self.parts: list[bytes] = []
        self.pause = 0.0  # seconds after each part
        self.cut = False  # the connection ends with the last part, the body does not
        self.endless = False  # the last part again and again
        self.whole: web.Response | None = None

    def says(self, *events: Any, names: bool = False) -> None:
        """Server-sent events; with `names`, each is named by its `type`."""
        self.parts = [_event(event, names=names) for event in events]

    def fails(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.whole = web.json_response(body or {}, status=status, headers=headers)

    def lists(self, body: Any) -> None:
        self.whole = web.json_response(body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.json() if request.can_read_body else {})
        self.connections.add(request.transport)
        if self.whole is not None:
            return web.Response(body=self.whole.body, status=self.whole.status, headers=self.whole.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for part in self.parts:
                await response.write(part)
                await asyncio.sleep(self.pause)
            if self.cut:
                await asyncio.sleep(0.02)
                assert request.transport is not None
                request.transport.abort()
            while self.endless:
                await response.write(self.parts[-1])
                await asyncio.sleep(0.01)
        except (asyncio.CancelledError, ConnectionError):
            self.closed_at = time.monotonic()
            raise
        await response.write_eof()
        return response


def _event(event: Any, *, names: bool) -> bytes:
    if isinstance(event, bytes):
        return event
    name = f"event: {event['type']}\n" if names else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


@contextmanager
def playing() -> Iterator[Player]:
    player = Player()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", player.answer)
    with served(app) as url:
        player.url = url
        yield player


def target_of(kind: str, base_url: str, model: str = "some-model", **settings: Any) -> ModelTarget:
    return ModelTarget(ProviderConnection("played", kind, base_url, "sk-test-key", settings), model)


async def ask(target: ModelTarget, messages: list[dict[str, Any]] | None = None, **params: Any) -> Completion:
    """The answer, collected from its stream."""
    answer = Accumulator()
    async with aclosing(gateway.stream(ChatRequest(target.model, messages or [USER], params), target)) as deltas:
        async for delta in deltas:
            answer.add(delta)
    return answer.completion()
