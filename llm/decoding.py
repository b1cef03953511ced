"""From the bytes that providers send to deltas: chunks of a stream, or a whole answer with `message` for `delta`."""

import json
import threading
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import orjson

from llm.exceptions import BadAnswer, ProviderError
from llm.wire import Delta, ToolCallDelta, Usage

T = TypeVar("T")


class WireFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class WireToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: WireFunction | None = None
    extra_content: dict[str, Any] | None = None


class WireBody(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[WireToolCall] | None = None


class WireChoice(msgspec.Struct):
    delta: WireBody | None = None
    message: WireBody | None = None
    index: int = 0
    finish_reason: str | None = None


class WireGroq(msgspec.Struct):
    usage: Usage | None = None


class WireChunk(msgspec.Struct):
    choices: list[WireChoice] | None = None
    usage: Usage | None = None
    model: str | None = None
    error: Any = None
    x_groq: WireGroq | None = None


_first = threading.Lock()
_decoders: dict[type[Any], Any] = {}
_decode_strict = msgspec.json.Decoder(WireChunk).decode


def decode_chunk(data: bytes) -> WireChunk:
    """Strictly first, which is fast; then with the types bent back. Raises BadAnswer for what is no chunk at all."""
    try:
        return _decode_strict(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(_straighten(loads(data)), WireChunk, strict=False)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadAnswer("The provider sent something that is no part of a chat completion.") from None


def decoder_of(kind: type[T]) -> msgspec.json.Decoder[T]:
    """One thread at a time: msgspec crashes where two are the first to decode a type."""
    with _first:
        found: msgspec.json.Decoder[T] | None = _decoders.get(kind)
        if found is None:
            found = _decoders[kind] = msgspec.json.Decoder(kind)
        return found


def decode_as(kind: type[T], data: bytes) -> T:
    """An event of another wire than OpenAI's, as a struct; the same leniency, the same errors."""
    try:
        return decoder_of(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(loads(data), kind, strict=False)
    except (ValueError, TypeError, RecursionError):
        raise BadAnswer("The provider sent something that is no part of an answer.") from None


def loads(data: bytes) -> Any:
    """JSON with broken characters replaced: cut UTF-8, and halves of surrogate pairs."""
    text = data.decode("utf-8", "replace")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        value = json.loads(text)
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return orjson.loads(whole)


def _straighten(chunk: Any) -> dict[str, Any]:
    for choice in chunk.get("choices") or []:
        choice["index"] = choice.get("index") or 0
        for body in (choice.get("delta"), choice.get("message")):
            if body is not None:
                _straighten_body(body)
    for holder in (chunk, chunk.get("x_groq")):
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            holder["usage"] = {name: value for name, value in holder["usage"].items() if value is not None}
    return dict(chunk)


def _straighten_body(body: dict[str, Any]) -> None:
    content = body.get("content")
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        body["content"] = _text_of(content)
        thinking = [part.get("thinking") or "" for part in content if not _is_text(part)]
        if thinking and not body.get("reasoning_content"):
            body["reasoning_content"] = "".join(_text_of(t) if isinstance(t, list) else str(t) for t in thinking)
    for call in body.get("tool_calls") or []:
        function = call.get("function") or {}
        if isinstance(function.get("arguments"), dict | list):
            function["arguments"] = orjson.dumps(function["arguments"]).decode()
        if call.get("id") is not None:
            call["id"] = str(call["id"])


def _text_of(parts: list[Any]) -> str:
    texts = (part if isinstance(part, str) else part.get("text") for part in parts if _is_text(part))
    return "".join(text or "" for text in texts)


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or part.get("type", "text") in ("text", "output_text")


FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "refusal": "content_filter",
}


class _Slot:
    __slots__ = ("has_arguments", "name", "wire_id")

    def __init__(self, call: WireToolCall, name: str) -> None:
        self.wire_id = call.id or None
        self.name = name
        self.has_arguments = False


class ToolCallSlots:
    """Finds the call that a fragment belongs to, where providers leave the index out or repeat it."""

    __slots__ = ("_by_wire", "_slots")

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._by_wire: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def place(self, call: WireToolCall) -> ToolCallDelta:
        name = (call.function and call.function.name) or ""
        arguments = (call.function and call.function.arguments) or ""
        place = self._find(call, name)
        if place is None:
            return self._open(call, name, arguments)
        slot = self._slots[place]
        late_name = name if name and not slot.name else None
        slot.name = slot.name or name
        slot.has_arguments = slot.has_arguments or bool(arguments)
        return ToolCallDelta(place, None, late_name, arguments, call.extra_content)

    def _open(self, call: WireToolCall, name: str, arguments: str) -> ToolCallDelta:
        place = len(self._slots)
        slot = _Slot(call, name)
        slot.has_arguments = bool(arguments)
        self._slots.append(slot)
        if call.index is not None:
            self._by_wire[call.index] = place
        return ToolCallDelta(place, call.id or f"call_{uuid4().hex[:24]}", name, arguments, call.extra_content)

    def _find(self, call: WireToolCall, name: str) -> int | None:
        """None for a fragment that begins a call."""
        if call.index is None:
            return self._find_without_index(call, name)
        place = self._by_wire.get(call.index)
        if place is None:
            return None
        slot = self._slots[place]
        if call.id and slot.wire_id and call.id != slot.wire_id:
            return None
        another = bool(name) and name != slot.name and slot.has_arguments and not call.id
        return None if another else place

    def _find_without_index(self, call: WireToolCall, name: str) -> int | None:
        if call.id:
            same = (place for place, slot in enumerate(self._slots) if slot.wire_id == call.id)
            return next(same, None)
        return None if name or not self._slots else len(self._slots) - 1


class StreamReader:
    """Turns the chunks of one answer into deltas, and knows whether the answer was finished."""

    __slots__ = ("_calls", "finished")
    to_the_end = False

    def __init__(self) -> None:
        self._calls = ToolCallSlots()
        self.finished = False

    def read(self, chunk: WireChunk) -> Delta | None:
        """None for a chunk that says nothing, such as the one with only the role; `chunk.error` is the caller's."""
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq else None)
        choice = chunk.choices[0] if chunk.choices else None
        if choice and choice.index:  # another answer than the one that was asked for
            choice = None
        body = (choice.delta or choice.message) if choice else None
        finish = self._finish(choice.finish_reason, body) if choice and choice.finish_reason else None
        if not body:
            return Delta(finish_reason=finish, usage=usage, model=chunk.model) if finish or usage else None
        reasoning = body.reasoning_content or body.reasoning or None
        if not (body.content or body.tool_calls or finish or usage or reasoning or body.refusal):
            return None
        calls = [self._calls.place(call) for call in body.tool_calls] if body.tool_calls else None
        model = chunk.model if finish else None
        return Delta(body.content or None, reasoning, calls, finish, usage, body.refusal or None, model)

    def end(self) -> Delta | None:
        """The finish that a provider left out which said `[DONE]` all the same."""
        return None if self.finished else Delta(finish_reason=self._finish("stop", None))

    def _finish(self, reason: str, body: WireBody | None) -> str | None:
        """Calls decide, not the word: some providers say `stop` after them. A repeated finish is passed over."""
        if reason == "error":
            raise ProviderError("The provider failed while it answered.")
        if self.finished:
            return None
        self.finished = True
        known = FINISH_REASONS.get(reason.lower(), "stop")
        called = len(self._calls) > 0 or bool(body and body.tool_calls)
        return "tool_calls" if called and known == "stop" else known
