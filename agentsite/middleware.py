"""What every request gets: an id, the caller's address, and both in the log."""

import re
from collections.abc import Callable
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from core.ids import uuid7
from core.request_context import set_current_request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def client_ip(peer: str | None, forwarded: str) -> str | None:
    """The peer, or what the outermost of TRUSTED_PROXIES proxies saw."""
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    trusted = settings.TRUSTED_PROXIES
    return hops[-trusted] if trusted and len(hops) >= trusted else peer


def request_id_of(given: str | None) -> str:
    return given if given and _REQUEST_ID.match(given) else str(uuid7())


def _begin(request: HttpRequest) -> str:
    request_id = request_id_of(request.headers.get("X-Request-Id"))
    forwarded = request.headers.get("X-Forwarded-For", "")
    set_current_request(request_id, client_ip(request.META.get("REMOTE_ADDR") or None, forwarded))
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


@sync_and_async_middleware
def RequestContextMiddleware(get_response: Callable[..., Any]) -> Callable[..., Any]:  # noqa: N802 as classes are
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> HttpResponseBase:
            request_id = _begin(request)
            response: HttpResponseBase = await get_response(request)
            response.headers["X-Request-Id"] = request_id
            return response

        return serve_async

    def serve(request: HttpRequest) -> HttpResponseBase:
        request_id = _begin(request)
        response: HttpResponseBase = get_response(request)
        response.headers["X-Request-Id"] = request_id
        return response

    return serve
