"""Refuse an oversized body while it arrives, before it fills memory or disk."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from django.conf import settings

from agentsite.middleware import request_id_of
from core.api import body_too_large

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class _TooLarge(Exception):
    """The body has grown past the limit."""


class BodyLimit:
    """ASGI middleware: 413 once a body exceeds MAX_BODY_BYTES, by its length or as it streams in.

    Django and REST framework take a body without a length for none, so one that comes in chunks is given its length.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > settings.MAX_BODY_BYTES:
            return await _refuse(headers, send)
        receive = _counted(receive)
        try:
            if b"content-length" not in headers and b"transfer-encoding" in headers:
                scope, receive = await _measured(scope, receive)
            await self.app(scope, receive, send)
        except _TooLarge:
            await _refuse(headers, send)


def _counted(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> dict[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > settings.MAX_BODY_BYTES:
            raise _TooLarge
        return message

    return counted


async def _measured(scope: dict[str, Any], receive: Receive) -> tuple[dict[str, Any], Receive]:
    """The request as if its length had been declared."""
    body = b""
    message: dict[str, Any] = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.request":
        message = {"type": "http.request", "body": body}
    waiting = [message]

    async def replayed() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return {**scope, "headers": [*scope["headers"], (b"content-length", str(len(body)).encode())]}, replayed


async def _refuse(headers: dict[bytes, bytes], send: Send) -> None:
    request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
    body = orjson.dumps(body_too_large().body(request_id))
    reply_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": reply_headers})
    await send({"type": "http.response.body", "body": body})
