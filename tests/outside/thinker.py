"""A provider whose model thinks, speaks, calls a tool once it is let, and speaks again; `thinks-cut` breaks off."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.llm.upstream import COUNTS, DONE, ROLE, chunk, served

CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "current_time", "arguments": "{}"}}


class Thinker:
    """`POST /open/<model>` lets it go on."""

    def __init__(self) -> None:
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def open(self, request: web.Request) -> web.Response:
        self._gates[request.match_info["model"]].set()
        return web.Response()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for part in self._parts(await request.json()):
            await response.write(part)
        await response.write_eof()
        return response

    async def _parts(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        yield ROLE
        if body["messages"][-1]["role"] == "tool":
            yield chunk({"content": "It is"})
            if body["model"] == "thinks-cut":
                return
            yield chunk({"content": " late."})
            yield chunk(finish="stop")
        else:
            for word in ("What", " is", " asked?"):
                yield chunk({"reasoning_content": word})
            for word in ("Let", " me", " look."):
                yield chunk({"content": word})
            await self._gates[body["model"]].wait()
            yield chunk({"tool_calls": [CALL]})
            yield chunk(finish="tool_calls")
        yield COUNTS
        yield DONE


@contextmanager
def running_thinker() -> Iterator[str]:
    """Its address."""
    thinker = Thinker()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", thinker.chat)
    app.router.add_post("/open/{model}", thinker.open)
    with served(app) as url:
        yield url
