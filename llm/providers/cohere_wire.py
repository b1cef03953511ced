"""The adapter for Cohere's chat, version 2. Imported when the first such provider is opened."""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from llm.decoding import ToolCallSlots, WireFunction, WireToolCall, decode_as
from llm.exceptions import ProviderError, ProviderTimeout
from llm.providers.base import RemoteAdapter
from llm.providers.conversation import (
    SYSTEM,
    Part,
    Tool,
    choice_of,
    format_of,
    max_tokens_of,
    parts_of,
    refuse_unsupported,
    renamed,
    stop_of,
    tools_of,
    unsupported,
)
from llm.providers.http import ErrorEvent, Upstream
from llm.providers.openai_wire import model_names
from llm.wire import ChatRequest, Delta, Usage

NAMES = {
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "thinking": "thinking",
    "safety_mode": "safety_mode",
}
FINISHES = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


class CohereAdapter(RemoteAdapter):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._upstream.stream("/v2/chat", body_of(request), request, CohereReader())

    async def list_models(self) -> list[str]:
        return model_names(await self._upstream.get("/v1/models?endpoint=chat&page_size=1000"))


def body_of(request: ChatRequest) -> dict[str, Any]:
    refuse_unsupported(request)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        **renamed(request, NAMES),
        **_tools(request),
    }
    if "p" in body:
        body["p"] = min(max(body["p"], 0.01), 0.99)  # it refuses 0 and 1
    if most := max_tokens_of(request):
        body["max_tokens"] = most
    if stop := stop_of(request):
        body["stop_sequences"] = stop
    if request.params.get("reasoning_effort") == "none":
        body.setdefault("thinking", {"type": "disabled"})
    if wanted := format_of(request):
        schema = {} if wanted.schema is None else {"json_schema": wanted.schema}
        body["response_format"] = {"type": "json_object", **schema}
    return body


def _tools(request: ChatRequest) -> dict[str, Any]:
    """Cohere cannot be told which tool to call: then it is shown that one alone."""
    tools, choice = tools_of(request), choice_of(request)
    if not tools:
        return {}
    shown = [choice] if isinstance(choice, Tool) else tools
    given = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
        }
        for tool in shown
    ]
    if isinstance(choice, Tool) or choice == "required":
        return {"tools": given, "tool_choice": "REQUIRED"}
    return {"tools": given, "tool_choice": "NONE"} if choice == "none" else {"tools": given}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    role = message["role"]
    parts = [_part(part) for part in parts_of(message)]
    plain = all(part["type"] == "text" for part in parts)
    content: Any = "".join(part["text"] for part in parts) if plain else parts
    if role in SYSTEM:
        return {"role": "system", "content": content}
    if role == "tool":
        return {"role": "tool", "tool_call_id": message["tool_call_id"], "content": content}
    if role == "assistant" and message.get("tool_calls"):
        calls = [{"id": call["id"], "type": "function", "function": call["function"]} for call in message["tool_calls"]]
        return {"role": role, "tool_calls": calls, **({"content": content} if content else {})}
    return {"role": role, "content": content}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.kind != "image":
        raise unsupported("This provider takes text and images in a message, nothing else.", "messages")
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{part.type};base64,{part.data}"}}


class Text(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None


class CallPart(msgspec.Struct):
    id: str | None = None
    function: WireFunction | None = None


class Message(msgspec.Struct):
    """Each event fills one; `content` and `tool_calls` are lists in `message-start`, where they are empty."""

    content: Text | list[Any] | None = None
    tool_plan: str | None = None
    tool_calls: CallPart | list[Any] | None = None


class Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class Counts(msgspec.Struct):
    billed_units: Tokens | None = None
    tokens: Tokens | None = None
    cached_tokens: float | None = None


class Change(msgspec.Struct):
    message: Message | None = None
    finish_reason: str | None = None
    usage: Counts | None = None
    error: Any = None


class Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    delta: Change | None = None


class CohereReader:
    to_the_end = False

    def __init__(self) -> None:
        self.finished = self.done = False
        self._calls = ToolCallSlots()

    def event(self, name: bytes, data: bytes) -> Delta | None:
        if name == b"error":
            raise ErrorEvent(data)
        if data == b"[DONE]":
            self.done = True
            return None
        event = decode_as(Event, data)
        if event.type == "message-end":
            return self._finish(event.delta or Change())
        if event.type in ("error", "stream-error") or (event.delta and event.delta.error):
            raise ErrorEvent(event.delta.error if event.delta else data)
        return self._said(event) if event.delta and event.delta.message else None

    def end(self) -> Delta | None:
        return None if self.finished else Delta(finish_reason="tool_calls" if len(self._calls) else "stop")

    def _said(self, event: Event) -> Delta | None:
        assert event.delta is not None
        message = event.delta.message
        assert message is not None
        if isinstance(message.content, Text) and (message.content.text or message.content.thinking):
            return Delta(text=message.content.text or None, reasoning=message.content.thinking or None)
        if message.tool_plan:
            return Delta(reasoning=message.tool_plan)
        if isinstance(message.tool_calls, CallPart):
            call = message.tool_calls
            return Delta(tool_calls=[self._calls.place(WireToolCall(event.index, call.id, call.function))])
        return None

    def _finish(self, change: Change) -> Delta:
        reason = change.finish_reason or ""
        if reason == "TIMEOUT":
            raise ProviderTimeout("The provider took too long.")
        if reason not in FINISHES:
            raise ProviderError("The provider failed while it answered.")
        self.finished = self.done = True
        known = "tool_calls" if len(self._calls) and FINISHES[reason] == "stop" else FINISHES[reason]
        return Delta(finish_reason=known, usage=_usage(change.usage))


def _usage(counts: Counts | None) -> Usage | None:
    """What Cohere bills, which is less than what its model reads: the frame of a conversation is free."""
    tokens = counts and (counts.billed_units or counts.tokens)
    if not counts or not tokens:
        return None
    prompt, answer = int(tokens.input_tokens or 0), int(tokens.output_tokens or 0)
    cached = None if counts.cached_tokens is None else {"cached_tokens": int(counts.cached_tokens)}
    return Usage(prompt, answer, prompt + answer, cached)
