"""The adapter for Anthropic's Messages API. Imported when the first such provider is opened.

Thinking goes back with the tool calls that followed it, as Anthropic demands: in the first call's `extra_content`.
"""

import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
import orjson

from llm.decoding import FINISH_REASONS, ToolCallSlots, WireFunction, WireToolCall, decode_as
from llm.providers.base import RemoteAdapter
from llm.providers.conversation import (
    SYSTEM,
    Media,
    Part,
    Tool,
    arguments_of,
    choice_of,
    extra_of,
    format_of,
    max_tokens_of,
    merged,
    parts_of,
    refuse_unsupported,
    stop_of,
    text_of,
    tools_of,
    unsupported,
)
from llm.providers.http import ErrorEvent, Upstream
from llm.providers.openai_wire import model_names
from llm.wire import ChatRequest, Delta, Usage

NATIVE = ("top_p", "top_k", "thinking", "output_config")
ANY_OBJECT = "Answer with one JSON object and nothing else."
EFFORTS = ("low", "medium", "high", "xhigh", "max")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
_LEFT_OUT = ("$schema", "$id", "strict")
_BOUNDS = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "default", "examples"),
        *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
    )
)


class AnthropicAdapter(RemoteAdapter):
    def __init__(self, upstream: Upstream, max_tokens: int) -> None:
        self._upstream = upstream
        self._max_tokens = max_tokens

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._upstream.stream("/messages", body_of(request, self._max_tokens), request, AnthropicReader())

    async def list_models(self) -> list[str]:
        return model_names(await self._upstream.get("/models?limit=1000"))


def body_of(request: ChatRequest, max_tokens: int) -> dict[str, Any]:
    refuse_unsupported(request)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": max_tokens_of(request) or max_tokens,
        "messages": _messages(request),
        "stream": True,
        **{name: request.params[name] for name in NATIVE if request.params.get(name) is not None},
    }
    if isinstance(temperature := request.params.get("temperature"), int | float):
        body["temperature"] = min(temperature, 1)  # its scale ends where OpenAI's has its middle
    if stop := stop_of(request):
        body["stop_sequences"] = stop
    system = [text for message in request.messages if message["role"] in SYSTEM if (text := text_of(message))]
    body.update(_output(request, body, system))
    if system:
        body["system"] = "\n\n".join(system)
    return {**body, **_tools(request)}


def _output(request: ChatRequest, body: dict[str, Any], system: list[str]) -> dict[str, Any]:
    """`output_config` for a schema and for the effort; a wish for any JSON is added to `system`."""
    config = dict(body.get("output_config") or {})
    wanted, effort = format_of(request), request.params.get("reasoning_effort")
    if wanted and wanted.schema is None:
        system.append(ANY_OBJECT)
    elif wanted:
        config["format"] = {"type": "json_schema", "schema": _closed(wanted.schema)}
    if effort in EFFORTS:
        config.setdefault("effort", effort)
    return {"output_config": config} if config else {}


def _closed(schema: Any) -> Any:
    try:
        return closed(schema)
    except RecursionError:
        raise unsupported("The schema of the answer is nested too deeply.", "response_format") from None


def closed(schema: Any) -> Any:
    """A schema as structured outputs take it: objects without further properties, bounds as words for the model."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    fitted: dict[str, Any] = {}
    bounds = {}
    for name, value in schema.items():
        if name in _LEFT_OUT:
            continue
        if name in _BOUNDS:
            bounds[name] = value
        elif name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            fitted[name] = {key: closed(each) for key, each in value.items()}
        elif name in ("enum", "const", "required"):
            fitted[name] = value
        else:
            fitted["anyOf" if name == "oneOf" else name] = closed(value)
    if fitted.get("type") == "object" or "properties" in fitted:
        fitted["additionalProperties"] = False
    if bounds:
        note = orjson.dumps(bounds, default=str).decode()
        fitted["description"] = f"{fitted.get('description', '')} {note}".strip()
    return fitted


def _tools(request: ChatRequest) -> dict[str, Any]:
    tools = tools_of(request)
    if not tools:
        return {}
    choice = choice_of(request)
    match choice:
        case Tool():
            wanted: dict[str, Any] = {"type": "tool", "name": choice.name}
        case "required":
            wanted = {"type": "any"}
        case _:
            wanted = {"type": choice or "auto"}
    if request.params.get("parallel_tool_calls") is False and choice != "none":
        wanted["disable_parallel_tool_use"] = True
    given = [
        {"name": tool.name, "input_schema": tool.schema}
        | ({"description": tool.description} if tool.description else {})
        for tool in tools
    ]
    return {"tools": given, "tool_choice": wanted}


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    turns = merged((_turn(message) for message in request.messages if message["role"] not in SYSTEM), "content")
    if turns and turns[-1]["role"] == "assistant":
        _trim(turns[-1]["content"])
    return turns


def _trim(blocks: list[dict[str, Any]]) -> None:
    """An answer to go on with must not end in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
        if not blocks[-1]["text"]:
            blocks.pop()


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        content = [_block(part) for part in parts_of(message)]
        result = {"type": "tool_result", "tool_use_id": _call_id(message["tool_call_id"]), "content": content}
        return {"role": "user", "content": [result]}
    said = [_block(part) for part in parts_of(message)]
    if message["role"] != "assistant":
        return {"role": "user", "content": said}
    return {"role": "assistant", "content": [*_thoughts(message), *said, *_uses(message)]}


def _thoughts(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for call in message.get("tool_calls") or ():
        thinking = extra_of(call, "anthropic").get("thinking")
        yield from thinking if isinstance(thinking, list) else ()


def _uses(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for call in message.get("tool_calls") or ():
        name, id = call["function"]["name"], _call_id(call["id"])
        yield {"type": "tool_use", "id": id, "name": name, "input": arguments_of(call)}


def _call_id(id: str) -> str:
    """Letters, digits, '_' and '-' only: the id may be another provider's."""
    return _NOT_IN_ID.sub("_", id)


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.kind == "audio":
        raise unsupported("This provider takes no audio in a message.", "messages")
    return {"type": "image" if part.kind == "image" else "document", "source": _source(part)}


def _source(media: Media) -> dict[str, Any]:
    if media.url:
        return {"type": "url", "url": media.url}
    return {"type": "base64", "media_type": media.type, "data": media.data}


class Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: dict[str, Any] | None = None


class Message(msgspec.Struct):
    model: str | None = None
    usage: Counts | None = None


class Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    data: str = ""
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class Change(msgspec.Struct):
    """What `content_block_delta` and `message_delta` hold."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Change | None = None
    usage: Counts | None = None


class AnthropicReader:
    to_the_end = False

    def __init__(self) -> None:
        self.finished = self.done = False
        self._model: str | None = None
        self._counts: dict[str, Any] = {}
        self._calls = ToolCallSlots()
        self._open: int | None = None  # the tool call under way
        self._has_input = False
        self._thinking: list[dict[str, Any]] = []

    def event(self, name: bytes, data: bytes) -> Delta | None:
        if name == b"error":
            raise ErrorEvent(data)
        event = decode_as(Event, data)
        match event.type:
            case "error":
                raise ErrorEvent(data)
            case "message_start" if event.message:
                self._model = event.message.model
                self._count(event.message.usage)
                return self._counted()
            case "content_block_start" if event.content_block:
                return self._begin(event.index, event.content_block)
            case "content_block_delta" if event.delta:
                return self._go_on(event.delta)
            case "content_block_stop":
                return self._end_block()
            case "message_delta":
                return self._finish(event)
            case "message_stop":
                self.done = True
        return None

    def end(self) -> Delta | None:
        return None if self.finished else Delta(finish_reason="stop", usage=self._usage(), model=self._model)

    def _begin(self, index: int, block: Block) -> Delta | None:
        match block.type:
            case "text" if block.text:
                return Delta(text=block.text)
            case "thinking":
                self._thinking.append({"type": "thinking", "thinking": block.thinking, "signature": ""})
                return Delta(reasoning=block.thinking) if block.thinking else None
            case "redacted_thinking":
                self._thinking.append({"type": "redacted_thinking", "data": block.data})
            case "tool_use":
                return self._call(index, block)
        return None

    def _call(self, index: int, block: Block) -> Delta:
        self._open, self._has_input = index, bool(block.input)
        arguments = orjson.dumps(block.input).decode() if block.input else ""
        extra = {"anthropic": {"thinking": self._thinking}} if self._thinking else None
        self._thinking = []
        call = WireToolCall(index, block.id, WireFunction(block.name, arguments), extra)
        return Delta(tool_calls=[self._calls.place(call)])

    def _go_on(self, change: Change) -> Delta | None:
        match change.type:
            case "text_delta" if change.text:
                return Delta(text=change.text)
            case "thinking_delta" if change.thinking:
                if self._thinking:
                    self._thinking[-1]["thinking"] += change.thinking
                return Delta(reasoning=change.thinking)
            case "signature_delta" if self._thinking:
                self._thinking[-1]["signature"] += change.signature
            case "input_json_delta" if change.partial_json and self._open is not None:
                return self._arguments(change.partial_json)
        return None

    def _arguments(self, text: str) -> Delta:
        self._has_input = True
        return Delta(tool_calls=[self._calls.place(WireToolCall(self._open, None, WireFunction(None, text)))])

    def _end_block(self) -> Delta | None:
        """A call without arguments sends none, which is no JSON."""
        missing = self._open is not None and not self._has_input
        delta = self._arguments("{}") if missing else None
        self._open = None
        return delta

    def _finish(self, event: Event) -> Delta | None:
        self._count(event.usage)
        reason = event.delta.stop_reason if event.delta else None
        if reason is None or self.finished:
            return None
        self.finished = True
        known = "length" if reason == "model_context_window_exceeded" else FINISH_REASONS.get(reason, "stop")
        if len(self._calls) and known == "stop":
            known = "tool_calls"
        return Delta(finish_reason=known, usage=self._usage(), model=self._model)

    def _count(self, counts: Counts | None) -> None:
        """The counts are cumulative, and a later event may leave out what an earlier one said."""
        if counts is not None:
            self._counts |= {name: value for name, value in msgspec.structs.asdict(counts).items() if value is not None}

    def _counted(self) -> Delta | None:
        """Of the request, exactly, before there is an answer: that may be cut short, and is counted at its end."""
        usage = self._usage()
        if usage is None:
            return None
        return Delta(usage=msgspec.structs.replace(usage, completion_tokens=0, total_tokens=usage.prompt_tokens))

    def _usage(self) -> Usage | None:
        """Anthropic counts cached tokens apart; here they are part of the prompt, as OpenAI has it."""
        if not self._counts:
            return None
        cached = self._counts.get("cache_read_input_tokens", 0)
        written = self._counts.get("cache_creation_input_tokens", 0)
        prompt = self._counts.get("input_tokens", 0) + cached + written
        answer = self._counts.get("output_tokens", 0)
        thought = (self._counts.get("output_tokens_details") or {}).get("thinking_tokens")
        return Usage(
            prompt,
            answer,
            prompt + answer,
            {"cached_tokens": cached, "cache_creation_tokens": written},
            None if thought is None else {"reasoning_tokens": thought},
        )
