"""CORS, by https://fetch.spec.whatwg.org/#http-cors-protocol: widgets on others' pages ask the API and load the chat.

The allowed origins are those of all live publishable keys. This is what browsers ask for; it protects nobody from other
programs. Whether a visitor may use their own key from a page is looked at with their token.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from agentsite.middleware import request_id_of
from core.aio import in_db_thread
from core.errors import NotPermitted
from core.tenant import tenant_context

logger = logging.getLogger(__name__)
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Any, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_VARY = (b"vary", b"origin")
_EXPOSED = (b"access-control-expose-headers", b"X-Request-Id, X-Run-Id, X-Session-Id, Retry-After")
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id"),
    (b"access-control-max-age", b"600"),
]


class CrossOrigin:
    """ASGI middleware around everything. It answers preflights; no cookies are allowed."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._static = f"{settings.STATIC_URL}chat/"
        self._until = 0.0
        self._allowed: frozenset[str] = frozenset()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(("/v1/", self._static)):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin: bytes | None = headers.get(b"origin")
        if origin is None and scope["path"].startswith("/v1/"):  # a program; nobody keeps such an answer for others
            await self.app(scope, receive, send)
            return
        allowed = origin is not None and origin.decode("latin-1") in await self._origins()
        if scope["method"] == "OPTIONS" and origin is not None and b"access-control-request-method" in headers:
            await (_answer_preflight(origin, send) if allowed else _refuse(headers, send))
            return
        added = [_VARY, (b"access-control-allow-origin", origin), _EXPOSED] if origin and allowed else [_VARY]
        await self.app(scope, receive, _adding(added, send))

    async def _origins(self) -> frozenset[str]:
        """Looked up once per API_KEY_CACHE_SECONDS; while that fails, what they were."""
        if self._until <= time.monotonic():
            self._until = time.monotonic() + settings.API_KEY_CACHE_SECONDS
            try:
                self._allowed = await in_db_thread(widget_origins)
            except Exception:
                logger.exception("The origins of publishable keys could not be read")
        return self._allowed


def widget_origins() -> frozenset[str]:
    """Of the live publishable keys of all active tenants, in one statement."""
    with tenant_context(None), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM widget_origins()")
        return frozenset(origin for (origin,) in cursor.fetchall())


def _adding(added: Headers, send: Send) -> Send:
    async def with_headers(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return with_headers


async def _answer_preflight(origin: bytes, send: Send) -> None:
    await _answer(send, 204, [_VARY, (b"access-control-allow-origin", origin), *_PREFLIGHT], b"")


async def _refuse(headers: dict[bytes, bytes], send: Send) -> None:
    message = "Pages of this origin may not ask this server; the origins of publishable keys are those that may."
    request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
    body = orjson.dumps(NotPermitted(message, code="origin").body(request_id))
    about = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode()), _VARY]
    await _answer(send, 403, about, body)


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = [(b"content-length", str(len(body)).encode())] if body else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})
