"""What MCP's messages are made of: JSON-RPC 2.0, https://modelcontextprotocol.io/specification/2025-11-25/basic"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt, StrictStr

from core.errors import ApplicationError, InvalidRequest
from core.request_context import current_request
from core.validation import parse

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # of the protocol; the newest first
UNNAMED_VERSION = "2025-03-26"  # which a request without MCP-Protocol-Version speaks
BATCH_VERSIONS = VERSIONS[2:]
MAX_BATCH = 50
MAX_NAME = 255  # characters of an id or a method
INVALID_JSON, INVALID_MESSAGE, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603

Message = dict[str, Any]
# What a client chooses to find its answer by; 64 bits are what JSON can be written with here.
Token = Annotated[StrictStr, Field(max_length=MAX_NAME)] | Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]


class RpcRequest(BaseModel):
    """A message that wants an answer."""

    jsonrpc: Literal["2.0"]
    id: Token
    method: Annotated[StrictStr, Field(max_length=MAX_NAME)]
    params: dict[str, Any] = {}


class Meta(BaseModel):
    progress_token: Token | None = Field(None, alias="progressToken")


class Params(BaseModel):
    """Fields that are not listed are another version's, or an extension's."""

    meta: Meta = Field(default_factory=Meta, alias="_meta")


def requests_of(body: Any, version: str) -> list[RpcRequest | Message]:
    """The requests of a body; one in a batch that is none is there as the message that says so.

    Raises InvalidRequest for a single message that is none, and for a batch that may not be.
    """
    if not isinstance(body, list):
        request = _request_of(body)
        return [] if request is None else [request]
    if version not in BATCH_VERSIONS:
        raise InvalidRequest(f"Version {version} of the protocol has no batches: send one message.", code="no_batches")
    if not 0 < len(body) <= MAX_BATCH:
        raise InvalidRequest(f"A batch has 1 to {MAX_BATCH} messages: send several batches.", code="batch_size")
    found = [_in_batch(message) for message in body]
    return [request for request in found if request is not None]


def _in_batch(message: Any) -> RpcRequest | Message | None:
    try:
        request = _request_of(message)
    except InvalidRequest as error:
        return failure(None, INVALID_MESSAGE, error)
    if request is not None and request.method == "initialize":
        return failure(request.id, INVALID_MESSAGE, InvalidRequest("initialize cannot be part of a batch."))
    return request


def _request_of(message: Any) -> RpcRequest | None:
    """None for a notification, and for the answer to a request, since this server sends none."""
    if not isinstance(message, dict):
        raise InvalidRequest("A message is a JSON object, as JSON-RPC 2.0 has it.")
    told = "id" not in message and isinstance(message.get("method"), str)
    answered = "method" not in message and ("result" in message or "error" in message)
    if message.get("jsonrpc") == "2.0" and (told or answered):
        return None
    return parse(RpcRequest, message)


def success(id: Token, result: dict[str, Any]) -> Message:
    return {"jsonrpc": "2.0", "id": id, "result": result}


def failure(id: Token | None, number: int, error: ApplicationError) -> Message:
    """`number` is JSON-RPC's; the error object of the rest of the API is its `data`."""
    data = error.body(current_request().request_id)["error"]
    return {"jsonrpc": "2.0", "id": id, "error": {"code": number, "message": error.message, "data": data}}
