"""The addresses of sockets."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
from django.urls import path, re_path

from core.errors import NotFound
from runs.consumers import SessionConsumer
from runs.socket_auth import request_facts


async def no_socket_here(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """404 where the server can answer so; else a close, for which it answers 403."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    body = orjson.dumps(NotFound("No socket has this address.").body(request_facts(scope).request_id))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


websocket_urlpatterns = [
    path("ws/v1/sessions/<path:ref>", SessionConsumer.as_asgi()),
    re_path("", cast(Any, no_socket_here)),
]
