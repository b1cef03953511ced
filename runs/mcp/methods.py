"""What this server answers by MCP. It keeps nothing between two requests: who asks is told by each one's key."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated

from django.conf import settings
from pydantic import Field, StrictStr

from core.aio import in_db_thread
from core.api import answerable
from core.errors import InvalidRequest, NotFound
from core.tenant import tenant_context
from core.validation import parse
from runs.mcp.calls import CallParams, tool_call
from runs.mcp.messages import (
    INTERNAL,
    INVALID_PARAMS,
    UNKNOWN_METHOD,
    VERSIONS,
    Message,
    Params,
    RpcRequest,
    failure,
    success,
)
from runs.mcp.tools import tool_page
from tenants.principal import Principal

INSTRUCTIONS = "Each tool is an agent. To go on with its conversation, give the session_id of its last answer."
Answers = AsyncGenerator[Message | None, None]


class InitializeParams(Params):
    protocol_version: Annotated[StrictStr, Field(alias="protocolVersion")]


class ListParams(Params):
    cursor: StrictStr | None = None


async def answers(actor: Principal, asked: Iterable[RpcRequest | Message], key: str | None) -> Answers:
    """The answers to requests, one after the other, with what is told meanwhile; None while nothing comes."""
    for request in asked:
        if isinstance(request, RpcRequest):
            async with aclosing(_answers(actor, request, key)) as found:
                async for message in found:
                    yield message
        else:
            yield request


async def _answers(actor: Principal, request: RpcRequest, key: str | None) -> Answers:
    try:
        async with aclosing(_methods(actor, request, key)) as found:
            async for message in found:
                yield message
    except InvalidRequest as error:
        yield failure(request.id, INVALID_PARAMS, error)
    except Exception as error:
        yield failure(request.id, INTERNAL, answerable(error))


async def _methods(actor: Principal, request: RpcRequest, key: str | None) -> Answers:
    match request.method:
        case "initialize":
            yield success(request.id, _hello(parse(InitializeParams, request.params)))
        case "ping":
            yield success(request.id, {})
        case "tools/list":
            cursor = parse(ListParams, request.params).cursor
            with tenant_context(actor.tenant_id):
                page = await in_db_thread(tool_page, actor=actor, cursor=cursor)
            yield success(request.id, page)
        case "tools/call":
            params = parse(CallParams, request.params)
            async with aclosing(tool_call(actor, request.id, params, key)) as found:
                async for message in found:
                    yield message
        case unknown:
            error = NotFound(f"There is no method '{unknown}' here.", code="method_not_found")
            yield failure(request.id, UNKNOWN_METHOD, error)


def _hello(params: InitializeParams) -> Message:
    version = params.protocol_version if params.protocol_version in VERSIONS else VERSIONS[0]
    server = {"name": "agentsite", "title": "Agentsite", "version": settings.SPECTACULAR_SETTINGS["VERSION"]}
    capabilities = {"tools": {"listChanged": False}}
    return {
        "protocolVersion": version,
        "capabilities": capabilities,
        "serverInfo": server,
        "instructions": INSTRUCTIONS,
    }
