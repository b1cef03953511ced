"""A model and a toolbox with the templates' own interface, that play what a test wrote down."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from templates_app.base import AgentTemplate
from templates_app.context import AgentContext, Message, Reply
from templates_app.events import Answer, Event


def say(text: str, finish: str = "stop") -> Reply:
    return Reply({"role": "assistant", "content": text}, finish)


def ask(*names: str, finish: str = "tool_calls") -> Reply:
    """A reply that calls these tools."""
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(names)
    ]
    return Reply({"role": "assistant", "content": None, "tool_calls": calls}, finish)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


class PlayedModel:
    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.requests: list[dict[str, Any]] = []
        self.retold: list[Message] = []

    async def reply(
        self, messages: Sequence[Message], *, tools: Sequence[Message] | None = None, **params: Any
    ) -> Reply:
        self.requests.append({"messages": deepcopy(list(messages)), "tools": tools, "params": dict(params)})
        return self._replies.pop(0)

    async def retell(self, message: Message, finish_reason: str) -> None:
        self.retold.append(message)

    async def takes_schemas(self) -> bool:
        return True


class PlayedToolbox:
    def __init__(self, *names: str) -> None:
        self.definitions = [tool(name) for name in names]
        self.calls: list[str] = []

    async def call(self, tool_call: dict[str, Any]) -> Message:
        self.calls.append(tool_call["id"])
        return {"role": "tool", "tool_call_id": tool_call["id"], "content": "done"}

    async def answer(self, tool_call: dict[str, Any], content: str, *, is_error: bool = False) -> Message:
        return {"role": "tool", "tool_call_id": tool_call["id"], "content": content}


def context(template: AgentTemplate, model: PlayedModel, **fields: Any) -> AgentContext:
    config = template.Config.model_validate(fields.pop("config", {}))
    given = {
        "instructions": "",
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": PlayedToolbox(),
        "make_chat_model": lambda: None,
        **fields,
    }
    return AgentContext(config=config, model=model, **given)


async def play(template: AgentTemplate, context: AgentContext) -> list[Event]:
    return [event async for event in template.run(context)]


async def answer(template: AgentTemplate, context: AgentContext) -> Answer:
    (event,) = await play(template, context)
    assert isinstance(event, Answer)
    return event
