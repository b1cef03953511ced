"""An MCP server on a real socket that behaves, but for what a test has it do; and a toolbox with its tools."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.conf import LazySettings

from core import fetch
from core.ids import uuid7
from core.validation import parse_config
from tests.toolsets.tools import Recorded
from toolsets.base import ToolCallContext
from toolsets.kinds.mcp.toolset import McpConfig, McpToolset
from toolsets.toolbox import GrantedToolset

ECHO = {
    "name": "echo",
    "description": "Says it again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
HEAD = "HTTP/1.1 {} X\r\nConnection: close\r\n"


class Asked(NamedTuple):
    verb: str  # of HTTP
    headers: dict[str, str]  # lower case
    message: dict[str, Any]  # empty without a body

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def body(content: bytes | str, kind: str = "application/json", status: int = 200, **headers: str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = HEAD.format(status) + f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n" + "".join(lines)
    return head.encode() + b"\r\n" + content


def answer(asked: Asked, result: Any, **headers: str) -> bytes:
    return body(json.dumps({"jsonrpc": "2.0", "id": asked.message["id"], "result": result}), **headers)


def refusal(asked: Asked, code: int, message: str, status: int = 200) -> bytes:
    error = {"code": code, "message": message}
    return body(json.dumps({"jsonrpc": "2.0", "id": asked.message["id"], "error": error}), status=status)


def sse_head() -> bytes:
    return (HEAD.format(200) + "Content-Type: text/event-stream\r\n\r\n").encode()


def event(message: Any, id: str = "") -> bytes:
    data = message if isinstance(message, str) else json.dumps(message)
    return (f"id: {id}\n" if id else "").encode() + f"data: {data}\n\n".encode()


def reply(asked: Asked, text: str = "ok") -> dict[str, Any]:
    result = {"content": [{"type": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": asked.message["id"], "result": result}


def says(content: bytes) -> Behaviour:
    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(content)

    return do


def results(result: Any) -> Behaviour:
    async def do(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(asked, result))

    return do


class Server:
    """`does` is what it does instead, by the method of JSON-RPC or the verb of HTTP. `tools` are those it has."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.does: dict[str, Behaviour] = {}
        self.tools: list[Any] = [ECHO]
        self.capabilities: dict[str, Any] = {"tools": {}}
        self.session = "s"  # what its sessions' ids begin with; empty: it has no state
        self.known: set[str] = set()
        self.url = ""
        self.gone = asyncio.Event()  # a client has broken off
        self.cancelled = asyncio.Event()
        self.ended = asyncio.Event()

    def methods(self) -> list[str]:
        return [each.method or each.verb for each in self.asked]

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._meet(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(first.split(" ")[0], headers, json.loads(content) if content else {})
        self.asked.append(asked)
        do = self.does.get(asked.method or asked.verb)
        if do is not None:
            await do(asked, writer)
        else:
            self._behave(asked, writer)

    def _behave(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.verb == "DELETE":
            self.known.discard(asked.headers.get("mcp-session-id", ""))
            self.ended.set()
            writer.write(body(b""))
        elif asked.method == "initialize":
            id = f"{self.session}{self.methods().count('initialize')}"
            self.known.add(id)
            session = {"Mcp_Session_Id": id} if self.session else {}
            version, about = asked.message["params"]["protocolVersion"], {"name": "test", "version": "1"}
            told = {"protocolVersion": version, "capabilities": self.capabilities, "serverInfo": about}
            writer.write(answer(asked, told, **session))
        elif self.session and asked.headers.get("mcp-session-id") not in self.known:
            writer.write(body(b"", status=404))
        elif "id" not in asked.message or "method" not in asked.message:
            if asked.method == "notifications/cancelled":
                self.cancelled.set()
            writer.write(body(b"", status=202))
        elif asked.method == "tools/list":
            writer.write(answer(asked, {"tools": self.tools}))
        elif asked.method == "tools/call":
            text = asked.message["params"]["arguments"].get("text", "")
            writer.write(answer(asked, {"content": [{"type": "text", "text": f"echo {text}"}]}))
        else:
            writer.write(refusal(asked, -32601, "Method not found"))


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    met = Server()
    listening = await asyncio.start_server(met.meet, "127.0.0.1", 0, limit=1 << 24)
    met.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    async with listening:
        yield met


@pytest.fixture
def reachable(settings: LazySettings) -> Any:
    """Tools may reach this machine, and as often as they like."""
    settings.ALLOW_PRIVATE_TOOLS = True
    settings.TOOL_RATE_PER_HOST = 100_000
    fetch.fetcher.cache_clear()
    yield
    fetch.fetcher.cache_clear()


class Client(Recorded):
    """What is learned of a server, and its tools called as a model calls them."""

    def __init__(
        self,
        tools: Any,
        secrets: dict[str, str],
        *,
        tenant: UUID | None = None,
        run: UUID | None = None,
        person: str = "",
    ) -> None:
        super().__init__(GrantedToolset("far", "1", tools, secrets=secrets))
        self._context = ToolCallContext(tenant or uuid7(), run or uuid7(), person=person)

    async def done(self, name: str, /, **arguments: Any) -> str:
        text = await self.ask(name, json.dumps(arguments))
        assert not self.results[-1].is_error, text
        return text

    async def failed(self, name: str, /, **arguments: Any) -> str:
        text = await self.ask(name, json.dumps(arguments))
        assert self.results[-1].is_error, text
        assert text != "The tool failed on the server."
        return text


def config_of(url: str, **config: Any) -> McpConfig:
    return parse_config(McpConfig, {"url": url, "timeout": 20, **config})


async def learned(url: str, token: str = "", **config: Any) -> dict[str, Any]:
    context = ToolCallContext(uuid7(), toolset="far", secrets={"token": token} if token else {})
    found: dict[str, Any] = await McpToolset().learn(config_of(url, **config), context)
    return found


async def client_of(server: Server, token: str = "", **config: Any) -> Client:
    known = await learned(server.url, token, **config)
    return made_client(server, known, token, **config)


def made_client(server: Server, known: Any, token: str = "", *, whose: Any = None, **config: Any) -> Client:
    tools = McpToolset().learned_tools(config_of(server.url, **config), known)
    return Client(tools, {"token": token} if token else {}, **(whose or {}))
