"""Tools that do what a test needs."""

import asyncio
from typing import Any

from core.ids import uuid7
from toolsets.base import Tool, ToolArguments, ToolCallContext
from toolsets.events import ToolResult
from toolsets.exceptions import ToolError
from toolsets.toolbox import GrantedToolset, Toolbox, tool_index


class Amount(ToolArguments):
    amount: int


async def double(arguments: Amount, context: ToolCallContext) -> dict[str, int]:
    return {"doubled": arguments.amount * 2}


async def refuse(arguments: Amount, context: ToolCallContext) -> str:
    raise ToolError("The shop is closed.")


async def crash(arguments: Amount, context: ToolCallContext) -> str:
    raise RuntimeError("password=hunter2")


async def hang(arguments: Amount, context: ToolCallContext) -> str:
    await asyncio.sleep(60)
    return "late"


def made(name: str, call: Any = double, **fields: Any) -> Tool:
    return Tool(name, f"{name} something", Amount, call, **fields)


def granted(slug: str, *tools: Tool) -> GrantedToolset:
    return GrantedToolset(slug, "1", tools)


class Recorded(Toolbox):
    """A toolbox that keeps what it emitted."""

    def __init__(self, *toolsets: GrantedToolset) -> None:
        self.results: list[ToolResult] = []
        super().__init__(tool_index(toolsets), emit=self._keep, context=ToolCallContext(uuid7()))

    async def _keep(self, result: ToolResult) -> None:
        self.results.append(result)

    async def ask(self, name: str, arguments: Any = '{"amount": 21}') -> str:
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
        message = await self.call(call)
        assert (message["role"], message["tool_call_id"]) == ("tool", "call_1")
        content: str = message["content"]
        assert self.results[-1].content == content
        return content
