"""What templates that speak in OpenAI messages share."""

from typing import Any

from templates_app.context import Message, Reply
from templates_app.events import Answer

# Meaningless, and refused by providers, in a request that offers no tools.
_TOOL_PARAMS = ("tool_choice", "parallel_tool_calls")


def with_instructions(instructions: str, messages: list[Message]) -> list[Message]:
    return [{"role": "system", "content": instructions}, *messages] if instructions else list(messages)


def model_params(caller: dict[str, Any], *, tools: bool, **defaults: Any) -> dict[str, Any]:
    """The caller's parameters over the config's; `max_tokens` gives way to the caller's `max_completion_tokens`."""
    if "max_completion_tokens" in caller:
        defaults.pop("max_tokens", None)
    params = {name: value for name, value in {**defaults, **caller}.items() if value is not None}
    return params if tools else {name: value for name, value in params.items() if name not in _TOOL_PARAMS}


def tool_calls(reply: Reply) -> list[dict[str, Any]]:
    """Their presence decides, not the finish reason: some providers say "stop" with tool calls."""
    return reply.message.get("tool_calls") or []


def tool_name(definition_or_call: dict[str, Any]) -> str:
    name: str = (definition_or_call.get("function") or {}).get("name") or ""
    return name


def client_answer(message: Message, calls: list[dict[str, Any]]) -> Answer:
    """The answer that leaves `calls` to the caller."""
    return Answer(message={**message, "tool_calls": calls}, finish_reason="tool_calls")
