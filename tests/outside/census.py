"""The product, and one path more that tells what its process holds: `GET /census`."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from django.http.request import HttpRequest

from agentsite.asgi import application as product
from runs.consumers import SessionConsumer
from runs.hub import Mailbox
from runs.process import process
from runs.sse import EventStreamResponse

PATH = "/census"
OF_A_CLIENT = (HttpRequest, EventStreamResponse, SessionConsumer, Mailbox)


async def application(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    if scope["type"] != "http" or scope["path"] != PATH:
        await product(scope, receive, send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": orjson.dumps(await census())})


async def census() -> dict[str, Any]:
    """Tasks by their function, runs that are under way or followed, and what lives no longer than a client."""
    here = await process()
    tasks = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    runs = {"live": len(here.live), "followed": len(here.hub.keys())}
    gc.collect()
    return {"tasks": tasks, "runs": runs, "objects": _objects()}


def _objects() -> Counter[str]:
    found = (type(thing) for thing in gc.get_objects())
    return Counter(kind.__name__ for kind in found if issubclass(kind, OF_A_CLIENT))
