"""The least that a proxy does: ASGI and one aiohttp session, the bytes passed on as they come.

UPSTREAM=http://127.0.0.1:… uvicorn bench.bare:application
"""

import os
from typing import Any

import aiohttp

UPSTREAM = os.environ.get("UPSTREAM", "")
_sessions: list[aiohttp.ClientSession] = []


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await {"lifespan": lifespan, "http": http}[scope["type"]](scope, receive, send)


async def http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = {"Content-Type": "application/json"}
    async with _sessions[0].post(UPSTREAM + scope["path"], data=await body(receive), headers=headers) as answer:
        kind = answer.headers["Content-Type"].encode()
        head = {"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]}
        await send(head)
        async for part in answer.content.iter_any():
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def body(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def lifespan(_: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    _sessions.append(aiohttp.ClientSession())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await _sessions[0].close()
    await send({"type": "lifespan.shutdown.complete"})
