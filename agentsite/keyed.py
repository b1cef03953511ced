"""Requests with an API key for async views, served in the event loop.

Django's handler calls signals, most middlewares, the renderer and the response's end in threads, one after the other:
that costs more than the rest of such a request. It has no session, no CSRF token and no messages; what is left of the
middlewares looks at headers only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from functools import lru_cache
from io import BytesIO
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import Resolver404, ResolverMatch, resolve, set_script_prefix
from django.utils.log import log_response

from agentsite.middleware import RequestContextMiddleware

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Answer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
PREFIXES = "/v1/", "/mcp"


class KeyedRequests:
    """ASGI middleware before `django`, which serves all other requests."""

    def __init__(self, django: App) -> None:
        self._django = django
        answer: Any = convert_exception_to_response(_view)
        for middleware in (XFrameOptionsMiddleware, CommonMiddleware, SecurityMiddleware):
            answer = convert_exception_to_response(_inline(middleware, answer))
        self._answer: Answer = RequestContextMiddleware(answer)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        match = _async_view(scope)
        if match is None:
            await self._django(scope, receive, send)
        elif (body := await _body(receive)) is not None:
            set_script_prefix(get_script_prefix(scope))
            try:
                request = ASGIRequest(scope, BytesIO(body))
            except UnicodeDecodeError:  # the query is no UTF-8
                await _send(HttpResponseBadRequest(), send)
            else:
                request.resolver_match = match
                await _unless_gone(receive, self._serve(request, send))

    async def _serve(self, request: HttpRequest, send: Any) -> None:
        await _send(await self._answer(request), send)


def _inline(middleware: type, answer: Answer) -> Answer:
    """Of a middleware that does no more than look at headers."""
    part: Any = middleware(HttpResponse)  # which it would call only by itself

    async def serve(request: HttpRequest) -> HttpResponseBase:
        refusal = part.process_request(request) if hasattr(part, "process_request") else None
        response: HttpResponseBase = part.process_response(request, refusal or await answer(request))
        return response

    return serve


async def _view(request: HttpRequest) -> HttpResponseBase:
    match = request.resolver_match
    assert match is not None
    response: Any = await match.func(request, *match.args, **match.kwargs)
    if hasattr(response, "render"):
        response.render()
    if response.status_code >= 400:
        log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
    return response  # type: ignore[no-any-return]


def _async_view(scope: dict[str, Any]) -> ResolverMatch | None:
    path = scope["path"]
    if not path.startswith(PREFIXES) or not any(name == b"authorization" for name, _ in scope["headers"]):
        return None
    return _resolved(path)


@lru_cache(256)
def _resolved(path: str) -> ResolverMatch | None:
    try:
        match = resolve(path)
    except Resolver404:
        return None
    return match if iscoroutinefunction(match.func) else None


async def _body(receive: Any) -> bytes | None:
    """None when the client goes before it has sent everything."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _unless_gone(receive: Any, work: Coroutine[Any, Any, None]) -> None:
    """The work, which is cancelled when the client goes meanwhile."""
    going, working = asyncio.ensure_future(receive()), asyncio.create_task(work)
    try:
        await asyncio.wait([going, working], return_when=asyncio.FIRST_COMPLETED)
    finally:
        going.cancel()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def _send(response: HttpResponseBase, send: Any) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    if isinstance(response, StreamingHttpResponse):
        frames: Any = aiter(response)
        async with aclosing(frames) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    body = response.content if isinstance(response, HttpResponse) else b""
    await send({"type": "http.response.body", "body": body})
