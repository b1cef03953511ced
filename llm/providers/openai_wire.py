"""The adapter for OpenAI's chat-completions wire. Imported when the first such provider is opened."""

from collections.abc import AsyncGenerator, Callable, Set
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings

from llm.decoding import StreamReader, decode_chunk
from llm.exceptions import BadAnswer, StreamTruncated
from llm.providers.base import CompletingAdapter, RemoteAdapter
from llm.providers.http import ErrorEvent, Upstream, json_body
from llm.wire import Accumulator, ChatRequest, Completion, Delta

MAX_MODELS = 2000
CHAT = "/chat/completions"
GOOGLE = ".googleapis.com"  # its OpenAI-compatible endpoint shares the name of its extra content with its own wire
FOREIGN = frozenset({"anthropic", "google"})


class ModelEntry(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class ModelList(msgspec.Struct):
    data: list[ModelEntry] | None = None
    models: list[ModelEntry] | None = None


_decode_list = msgspec.json.Decoder(ModelList, strict=False).decode


class OpenAIReader(StreamReader):
    __slots__ = ("done",)

    def __init__(self) -> None:
        super().__init__()
        self.done = False

    def event(self, name: bytes, data: bytes) -> Delta | None:
        if name == b"error":
            raise ErrorEvent(data)
        if data == b"[DONE]":
            self.done = True
            return None
        if not data.strip():
            return None
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise ErrorEvent(chunk.error)
        return self.read(chunk)


class OpenAIAdapter(RemoteAdapter, CompletingAdapter):
    """`fit` changes a request's body to what the provider takes; `models` is the path of the list of its models."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        stream_usage: bool = True,
        fit: Callable[[dict[str, Any]], None] | None = None,
        models: str = "/models",
    ) -> None:
        self._upstream = upstream
        self._stream_usage = stream_usage
        self._fit = fit
        self._models = models
        google = (urlsplit(upstream.base_url).hostname or "").endswith(GOOGLE)
        self._foreign = FOREIGN - {"google"} if google else FOREIGN

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._upstream.stream(CHAT, self._body(request, stream=True), request, OpenAIReader())

    async def complete(self, request: ChatRequest) -> Completion:
        body, silence = self._body(request, stream=False), settings.LLM_TOTAL_TIMEOUT
        async with self._upstream.answer(CHAT, body, request, silence=silence) as response:
            answer, reader = Accumulator(), OpenAIReader()
            delta = self._upstream.read(reader, b"", await json_body(response), request)
            if delta is not None:
                answer.add(delta)
            if not reader.finished:
                raise StreamTruncated("The provider's answer has no finish reason.")
            return answer.completion()

    async def list_models(self) -> list[str]:
        return model_names(await self._upstream.get(self._models))

    def _body(self, request: ChatRequest, *, stream: bool) -> dict[str, Any]:
        messages = [_without(self._foreign, message) for message in request.messages]
        body = {**request.params, "model": request.model, "messages": messages, "stream": stream}
        body.pop("stream_options", None)
        if stream and self._stream_usage:
            body["stream_options"] = {"include_usage": True}
        if self._fit:
            self._fit(body)
        return body


def _without(foreign: Set[str], message: dict[str, Any]) -> dict[str, Any]:
    """The message, its calls without what another provider wants back with them: it would be refused here."""
    calls = message.get("tool_calls")
    if not calls or not any("extra_content" in call for call in calls):
        return message
    return {**message, "tool_calls": [_call_without(foreign, call) for call in calls]}


def _call_without(foreign: Set[str], call: dict[str, Any]) -> dict[str, Any]:
    extra = call.get("extra_content")
    kept = {name: value for name, value in extra.items() if name not in foreign} if isinstance(extra, dict) else None
    rest = {name: value for name, value in call.items() if name != "extra_content"}
    return {**rest, "extra_content": kept} if kept else rest


def model_names(body: bytes, prefix: str = "") -> list[str]:
    """From the lists that providers give; `prefix` is taken off each name."""
    try:
        answer = _decode_list(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadAnswer("The provider's address does not list models: check its base_url.", retryable=False) from None
    entries = answer.data or answer.models or []
    names = {(entry.id or entry.name or "").removeprefix(prefix) for entry in entries}
    return sorted(name for name in names if 0 < len(name) <= 200)[:MAX_MODELS]
