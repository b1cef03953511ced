"""The site's application as MCP's conformance runner can ask it: it sends no key, and its tools are no agents' slugs.

Each request to /mcp gets acme's key; a call of a tool of the runner's becomes one of the agent `scripted`, told to do
what the runner expects of the tool. Host, Origin and all answers pass as they are.
"""

import os
from typing import Any

import orjson

from agentsite.asgi import application as site

TOOLS: dict[str, list[dict[str, Any]]] = {
    "test_simple_text": [{"say": "This is a simple text response for testing."}],
    "test_error_handling": [{"fail": "cut"}],
    "test_tool_with_progress": [{"repeat": "word", "times": 25, "delay_ms": 150}],
}


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    asked_by_mcp = scope["type"] == "http" and scope["path"] == "/mcp"
    await (_keyed if asked_by_mcp else site)(scope, receive, send)


async def _keyed(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = _asked(await _body(receive))
    ours = [(b"authorization", f"Bearer {os.environ['MCP_KEY']}".encode()), (b"content-length", b"%d" % len(body))]
    given = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"content-length")]
    await site({**scope, "headers": [*given, *ours]}, _first({"type": "http.request", "body": body}, receive), send)


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _asked(body: bytes) -> bytes:
    message = orjson.loads(body) if body else {}
    params = message.get("params") or {}
    if message.get("method") != "tools/call" or params.get("name") not in TOOLS:
        return body
    said = "#script " + orjson.dumps(TOOLS[params["name"]]).decode()
    return orjson.dumps({**message, "params": {**params, "name": "scripted", "arguments": {"message": said}}})


def _first(message: dict[str, Any], receive: Any) -> Any:
    waiting = [message]

    async def next_message() -> Any:
        return waiting.pop() if waiting else await receive()

    return next_message
