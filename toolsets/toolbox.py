"""The tools of one agent: what the model is told of them, and the calls that it makes."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from pydantic import ValidationError

from core.validation import pydantic_faults
from toolsets.base import TOOL_NAME, Tool, ToolCallContext
from toolsets.events import ToolResult
from toolsets.exceptions import ToolError

logger = logging.getLogger(__name__)
MAX_CONTENT = 200_000  # characters of one result
Emit = Callable[[ToolResult], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GrantedToolset:
    """A toolset that an agent may use, ready to call. `revision` changes whenever its tools may have changed."""

    slug: str
    revision: str
    tools: Sequence[Tool]


@dataclass(frozen=True)
class ToolIndex:
    """The tools of all granted toolsets by the name that the model uses; `clashes` are names that were left out."""

    tools: Mapping[str, Tool]
    clashes: list[str]

    @cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """OpenAI function tools. Made at the first use: schemas cost milliseconds, and checking names needs none."""
        return [_definition(name, tool) for name, tool in self.tools.items()]


def tool_index(granted: Iterable[GrantedToolset]) -> ToolIndex:
    """A name that several toolsets use is prefixed by their slugs; what is no usable name even then is left out."""
    offered = [(toolset.slug, tool) for toolset in granted for tool in toolset.tools]
    counts = Counter(tool.name for _, tool in offered)
    tools: dict[str, Tool] = {}
    clashes: list[str] = []
    for slug, tool in offered:
        name = tool.name if counts[tool.name] == 1 else f"{slug}_{tool.name}"
        if name in tools or not TOOL_NAME.fullmatch(name):
            clashes.append(name)
        else:
            tools[name] = tool
    return ToolIndex(tools, clashes)


def _definition(name: str, tool: Tool) -> dict[str, Any]:
    function = {"name": name, "description": tool.description, "parameters": tool.parameters()}
    return {"type": "function", "function": function}


class Toolbox:
    """The tools of one run. Each call is validated, limited in time and told to `emit`; no fault of a tool escapes."""

    def __init__(self, index: ToolIndex, *, emit: Emit, context: ToolCallContext) -> None:
        self._index = index
        self._emit = emit
        self._context = context

    @property
    def definitions(self) -> list[dict[str, Any]]:
        return self._index.definitions

    async def call(self, tool_call: dict[str, Any]) -> dict[str, Any]:
        """Run one tool call in OpenAI's shape; the `role: tool` message that answers it."""
        call_id = str(tool_call.get("id") or "")
        function = tool_call.get("function") or {}
        name = str(function.get("name") or "")
        started = time.monotonic()
        try:
            content, is_error = _text(await self._result(name, function.get("arguments"))), False
        except ToolError as error:
            content, is_error = _text(str(error)), True
        ms = round((time.monotonic() - started) * 1000)
        await self._emit(ToolResult(call_id, name, content, is_error, ms))
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    async def _result(self, name: str, arguments: Any) -> Any:
        tool = self._index.tools.get(name)
        if tool is None:
            raise ToolError(f"There is no tool '{name}'. Available: {', '.join(self._index.tools) or 'none'}.")
        parsed = _parse(tool, arguments)
        try:
            async with asyncio.timeout(tool.timeout):
                return await tool.call(parsed, self._context)
        except TimeoutError:
            raise ToolError(f"The tool did not finish within {tool.timeout:g} s.") from None
        except ToolError:
            raise
        except Exception:
            logger.exception("A tool failed", extra={"tool": name, "run_id": str(self._context.run_id)})
            raise ToolError("The tool failed on the server.") from None


def _parse(tool: Tool, arguments: Any) -> Any:
    """Raises ToolError that names every fault, so that the model can mend its call."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {})
    try:
        return tool.arguments.model_validate_json(text or "{}")
    except ValidationError as error:
        faults = "; ".join(f"{fault['path'] or 'arguments'}: {fault['message']}" for fault in pydantic_faults(error))
        raise ToolError(f"The arguments are wrong. {faults}") from None


def _text(result: Any) -> str:
    """What the model is shown: JSON but for text, storable (no NUL, no lone surrogate) and of bounded length."""
    text = (
        result
        if isinstance(result, str)
        else orjson.dumps(result, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    )
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if len(text) <= MAX_CONTENT:
        return text
    return f"{text[:MAX_CONTENT]}\n[cut: {len(text)} characters in all]"
