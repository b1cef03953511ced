"""An API on a real socket that keeps each request as it came, and a toolbox with its tools."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from django.conf import LazySettings

from core import fetch
from core.ids import uuid7
from core.validation import parse_config
from tests.toolsets.tools import Recorded
from toolsets.base import ToolCallContext
from toolsets.kinds.http.toolset import HttpConfig
from toolsets.registry import toolset_kinds
from toolsets.toolbox import GrantedToolset


class Asked(NamedTuple):
    method: str
    target: str  # of the request line, as it came
    headers: dict[str, str]  # lower case
    raw: bytes  # the head
    body: bytes


def answer(status: int = 200, body: bytes | str = b"{}", kind: str = "application/json", **headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Api:
    """Answers `answers` one after the other, then `{}`. An empty answer closes the connection."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[bytes] = []
        self.url = ""

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(Asked(method, target, headers, head, body))
        writer.write(self.answers.pop(0) if self.answers else answer())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Api]:
    api = Api()
    server = await asyncio.start_server(api.meet, "127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield api


@pytest.fixture
def reachable(settings: LazySettings) -> Any:
    """Tools may reach this machine, and as often as they like."""
    settings.ALLOW_PRIVATE_TOOLS = True
    settings.TOOL_RATE_PER_HOST = 100_000
    fetch.fetcher.cache_clear()
    yield
    fetch.fetcher.cache_clear()


def document(*operations: tuple[str, str, dict[str, Any]], **more: Any) -> str:
    """Of operations by method, path and the rest."""
    paths: dict[str, Any] = {}
    for method, path, operation in operations:
        paths.setdefault(path, {})[method] = operation
    return json.dumps({"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": paths, **more})


def parameter(name: str, where: str, schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"} if schema is None else schema, **more}


class Http(Recorded):
    """The tools of a config, called as a model calls them."""

    def __init__(self, config: dict[str, Any], token: str = "") -> None:
        self.tools = toolset_kinds()["http"].tools(parse_config(HttpConfig, config))
        secrets = {"token": token} if token else {}
        super().__init__(GrantedToolset("api", "1", self.tools, secrets=secrets))
        self._context = ToolCallContext(uuid7())

    async def done(self, name: str, **arguments: Any) -> dict[str, Any]:
        text = await self.ask(name, json.dumps(arguments))
        assert not self.results[-1].is_error, text
        found: dict[str, Any] = json.loads(text)
        return found

    async def failed(self, name: str, **arguments: Any) -> str:
        text = await self.ask(name, json.dumps(arguments))
        assert self.results[-1].is_error, text
        return text
