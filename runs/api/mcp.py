"""`/mcp`: MCP's streamable HTTP, stateless, https://modelcontextprotocol.io/specification/2025-11-25/basic/transports"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import InvalidRequest, NotAcceptable, NotAuthenticated
from runs import sse
from runs.api.views import idempotency_key
from runs.mcp.messages import (
    INVALID_JSON,
    INVALID_MESSAGE,
    UNNAMED_VERSION,
    VERSIONS,
    Message,
    RpcRequest,
    failure,
    requests_of,
)
from runs.mcp.methods import Answers, answers
from runs.origins import check_host, check_origin
from tenants.api.base import AsyncApiView, bearer_token
from tenants.permissions import refuse_guest
from tenants.principal import Principal


class McpView(AsyncApiView):
    """No stream of the server's own (GET) and no session to end (DELETE): nothing is kept between two requests."""

    schema = None  # not REST
    http_method_names = ["post"]

    async def _authenticate(self, request: HttpRequest) -> Principal:
        """By a key alone: a page cannot use what its browser knows, under whatever name it finds the server."""
        host = request.get_host()
        check_host(host)
        check_origin(request.headers.get("Origin"), host)
        if bearer_token(request) is None:
            raise NotAuthenticated("Send `Authorization: Bearer <api key>`.")
        principal = await super()._authenticate(request)
        refuse_guest(principal)
        return principal

    async def post(self, request: Request) -> Any:
        """A JSON-RPC message, or a batch of them."""
        version, key = _version(request), idempotency_key(request)
        streamable = request._request.accepts("text/event-stream")
        if not streamable and not request._request.accepts("application/json"):
            raise NotAcceptable("Accept application/json, text/event-stream or both.")
        try:
            asked = requests_of(request.data, version)
        except InvalidRequest as error:
            number = INVALID_JSON if error.code == "invalid_json" else INVALID_MESSAGE
            return Response(failure(None, number, error), status=400)
        if not asked:
            return HttpResponse(status=202)
        found = answers(self.actor, asked, key)
        if streamable and any(isinstance(one, RpcRequest) and one.method == "tools/call" for one in asked):
            return sse.EventStreamResponse(_frames(found))
        told = await _answered(found)
        return Response(told if isinstance(request.data, list) else told[0])


def _version(request: Request) -> str:
    version: str = request.headers.get("MCP-Protocol-Version", UNNAMED_VERSION)
    if version not in VERSIONS:
        raise InvalidRequest(
            f"MCP-Protocol-Version must be one of {', '.join(VERSIONS)}.", param="MCP-Protocol-Version"
        )
    return version


async def _frames(found: Answers) -> AsyncGenerator[bytes, None]:
    async with aclosing(found) as messages:
        async for message in messages:
            yield sse.HEARTBEAT if message is None else sse.frame(orjson.dumps(message))


async def _answered(found: Answers) -> list[Message]:
    """Without notifications, which only a stream has room for."""
    async with aclosing(found) as messages:
        return [message async for message in messages if message is not None and "method" not in message]
