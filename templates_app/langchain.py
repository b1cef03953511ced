"""LangChain's shapes of what a run has: tools that find the run's toolbox, and messages back in OpenAI's shape."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import orjson
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_openai_messages
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from core.errors import ApplicationError
from templates_app.context import Toolbox
from templates_app.events import Answer

_toolbox: ContextVar[Toolbox] = ContextVar("toolbox")


@contextmanager
def use_toolbox(toolbox: Toolbox) -> Iterator[None]:
    """The tools called within, and in tasks started from within, are this run's."""
    token = _toolbox.set(toolbox)
    try:
        yield
    finally:
        _toolbox.reset(token)


class RunTool(BaseTool):
    """A granted tool. Stateless: it calls the toolbox of the run that calls it, which validates, limits and records."""

    @classmethod
    def of(cls, definition: dict[str, Any]) -> "RunTool":
        function = definition["function"]
        return cls(
            name=function["name"],
            description=function.get("description") or function["name"],
            args_schema=function.get("parameters") or {"type": "object", "properties": {}},
        )

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """A ToolMessage for a tool call, the plain text for bare arguments."""
        is_call = isinstance(input, dict) and input.get("type") == "tool_call"
        arguments = input["args"] if is_call else input
        call_id = (input.get("id") if is_call else None) or f"call_{uuid4().hex}"
        message = await _toolbox.get().call(_wire_call(call_id, self.name, arguments))
        if not is_call:
            return message["content"]
        return ToolMessage(content=message["content"], tool_call_id=call_id, name=self.name)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Tools of a run are asynchronous: use ainvoke.")


def _wire_call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def last_ai_message(messages: Sequence[BaseMessage]) -> Answer:
    message = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    if message is None:
        raise ApplicationError("The agent's graph ended without an answer.", code="no_answer")
    wire: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.tool_calls:
        wire["tool_calls"] = convert_to_openai_messages(message)["tool_calls"]
        return Answer(wire, "tool_calls")
    return Answer(wire, str(message.response_metadata.get("finish_reason") or "stop"))
