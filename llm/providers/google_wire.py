"""The adapter for Gemini's generateContent. Imported when the first such provider is opened.

A thought signature goes back with the tool call that it came with, in `extra_content`, in the shape of Google's own
OpenAI-compatible endpoint: `{"google": {"thought_signature": …}}`.
"""

import mimetypes
import re
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import orjson

from llm.decoding import ToolCallSlots, WireFunction, WireToolCall, decode_as
from llm.exceptions import BadAnswer, ProviderError, ProviderRejected
from llm.providers.base import RemoteAdapter
from llm.providers.conversation import (
    SYSTEM,
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
    renamed,
    stop_of,
    text_of,
    tools_of,
)
from llm.providers.http import ErrorEvent, Upstream
from llm.providers.openai_wire import model_names
from llm.wire import ChatRequest, Delta, ToolCallDelta, Usage

CONFIG = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
# Tokens to think with, for the models that take a number; what Google's own OpenAI-compatible endpoint makes of them.
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
LEVELS = {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}
_TAKES_BUDGET = re.compile(r"gemini-(1|2)[.-]")
# Stands for the signature of a call that another model made; Gemini 3 refuses a call without any.
FOREIGN_CALL = "skip_thought_signature_validator"
FINISHES = {"STOP": "stop", "FUNCTION_CALL": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
FILTERED = frozenset(
    (
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "MODEL_ARMOR"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    )
)
BAD_CALLS = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE")


class GoogleAdapter(RemoteAdapter):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        path = f"{_model_path(request.model)}:streamGenerateContent?alt=sse"
        return self._upstream.stream(path, body_of(request), request, GoogleReader())

    async def list_models(self) -> list[str]:
        return model_names(await self._upstream.get("/models?pageSize=1000"), "models/")


def _model_path(model: str) -> str:
    """Quoted, so that no name of a model leads to another path of the provider."""
    kind, slash, name = model.partition("/")
    if slash and kind in ("models", "tunedModels"):
        return f"/{kind}/{quote(name, safe='')}"
    return f"/models/{quote(model, safe='')}"


def body_of(request: ChatRequest) -> dict[str, Any]:
    refuse_unsupported(request)
    body: dict[str, Any] = {"contents": _contents(request)}
    system = [{"text": text} for message in request.messages if message["role"] in SYSTEM if (text := text_of(message))]
    if system:
        body["systemInstruction"] = {"parts": system}
    if config := _config(request):
        body["generationConfig"] = config
    if request.params.get("safety_settings"):
        body["safetySettings"] = request.params["safety_settings"]
    return {**body, **_tools(request)}


def _config(request: ChatRequest) -> dict[str, Any]:
    config = renamed(request, CONFIG)
    if "seed" in config:
        config["seed"] %= 2**31  # it takes 32 bits with a sign
    if most := max_tokens_of(request):
        config["maxOutputTokens"] = most
    if stop := stop_of(request):
        config["stopSequences"] = stop
    if wanted := format_of(request):
        config["responseMimeType"] = "application/json"
        if wanted.schema is not None:
            config["responseJsonSchema"] = wanted.schema
    if thinking := _thinking(request):
        config["thinkingConfig"] = thinking
    return config


def _thinking(request: ChatRequest) -> dict[str, Any] | None:
    effort = request.params.get("reasoning_effort")
    if effort not in BUDGETS:
        return None
    if _TAKES_BUDGET.match(request.model.removeprefix("models/")):
        return {"thinkingBudget": BUDGETS[effort], "includeThoughts": effort != "none"}
    return {"thinkingLevel": LEVELS[effort], "includeThoughts": effort != "none"}


def _tools(request: ChatRequest) -> dict[str, Any]:
    tools = tools_of(request)
    if not tools:
        return {}
    choice = choice_of(request)
    match choice:
        case Tool():
            mode: dict[str, Any] = {"mode": "ANY", "allowedFunctionNames": [choice.name]}
        case "required":
            mode = {"mode": "ANY"}
        case _:
            mode = {"mode": (choice or "auto").upper()}
    declared = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema} for tool in tools
    ]
    return {"tools": [{"functionDeclarations": declared}], "toolConfig": {"functionCallingConfig": mode}}


def _contents(request: ChatRequest) -> list[dict[str, Any]]:
    names: dict[str, str] = {}  # of the functions called so far, by call id: a result does not say whose it is
    turns = []
    for message in request.messages:
        if message["role"] in SYSTEM:
            continue
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        turns.append(_turn(message, names, request.model))
    return merged(turns, "parts")


def _turn(message: dict[str, Any], names: dict[str, str], model: str) -> dict[str, Any]:
    if message["role"] == "tool":
        call_id = message["tool_call_id"]
        answer = {"name": names.get(call_id) or message.get("name") or "tool", "response": _response(text_of(message))}
        media = [_part(part) for part in parts_of(message) if not isinstance(part, str)]
        return {"role": "user", "parts": [{"functionResponse": answer}, *media]}
    said = [_part(part) for part in parts_of(message)]
    if message["role"] != "assistant":
        return {"role": "user", "parts": said}
    return {"role": "model", "parts": [*said, *_calls(message, model)]}


def _calls(message: dict[str, Any], model: str) -> list[dict[str, Any]]:
    parts = []
    for place, call in enumerate(message.get("tool_calls") or ()):
        part: dict[str, Any] = {"functionCall": {"name": call["function"]["name"], "args": arguments_of(call)}}
        signature = extra_of(call, "google").get("thought_signature")
        if not signature and place == 0 and not _TAKES_BUDGET.match(model.removeprefix("models/")):
            signature = FOREIGN_CALL
        if signature:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _response(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = text
    return found if isinstance(found, dict) else {"result": found}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if part.url:
        kind = mimetypes.guess_type(urlsplit(part.url).path)[0] or "image/jpeg"
        return {"fileData": {"fileUri": part.url, "mimeType": kind}}
    return {"inlineData": {"mimeType": part.type, "data": part.data}}


class Struct(msgspec.Struct, rename="camel"):
    """Google's names."""


class Call(Struct):
    name: str = ""
    args: dict[str, Any] | None = None
    id: str | None = None


class AnswerPart(Struct):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: Call | None = None


class Content(Struct):
    parts: list[AnswerPart] | None = None


class Candidate(Struct):
    content: Content | None = None
    finish_reason: str | None = None
    index: int = 0


class Counts(Struct):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0
    tool_use_prompt_token_count: int = 0


class Feedback(Struct):
    block_reason: str | None = None


class Chunk(Struct):
    candidates: list[Candidate] | None = None
    usage_metadata: Counts | None = None
    prompt_feedback: Feedback | None = None
    model_version: str | None = None
    error: Any = None


class GoogleReader:
    """The finish is said at the end of the stream: some models repeat it in every chunk."""

    to_the_end = True

    def __init__(self) -> None:
        self.finished = self.done = False
        self._reason: str | None = None
        self._counts: Counts | None = None
        self._model: str | None = None
        self._calls = ToolCallSlots()

    def event(self, name: bytes, data: bytes) -> Delta | None:
        if name == b"error":
            raise ErrorEvent(data)
        chunk = decode_as(Chunk, data)
        if chunk.error is not None:
            raise ErrorEvent(chunk.error)
        if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
            raise ProviderRejected("The provider's content filter refused the request.", code="content_filter")
        self._counts = chunk.usage_metadata or self._counts
        self._model = chunk.model_version or self._model
        candidate = chunk.candidates[0] if chunk.candidates else None
        counted = self._usage() if chunk.usage_metadata else None
        if candidate is None or candidate.index:
            return Delta(usage=counted) if counted else None
        if candidate.finish_reason and candidate.finish_reason != "FINISH_REASON_UNSPECIFIED":
            self._reason, self.finished = _finish(candidate.finish_reason), True
        return self._said(candidate.content.parts if candidate.content else None, counted)

    def end(self) -> Delta | None:
        called = len(self._calls) > 0 and self._reason == "stop"
        return Delta(finish_reason="tool_calls" if called else self._reason, usage=self._usage(), model=self._model)

    def _said(self, parts: list[AnswerPart] | None, counted: Usage | None) -> Delta | None:
        text = "".join(part.text for part in parts or () if part.text and not part.thought)
        reasoning = "".join(part.text for part in parts or () if part.text and part.thought)
        calls = [self._call(part.function_call, part.thought_signature) for part in parts or () if part.function_call]
        if not (text or reasoning or calls or counted):
            return None
        return Delta(text or None, reasoning or None, calls or None, usage=counted)

    def _call(self, call: Call, signature: str | None) -> ToolCallDelta:
        extra = {"google": {"thought_signature": signature}} if signature else None
        arguments = orjson.dumps(call.args or {}).decode()
        return self._calls.place(WireToolCall(len(self._calls), call.id, WireFunction(call.name, arguments), extra))

    def _usage(self) -> Usage | None:
        if self._counts is None:
            return None
        prompt = self._counts.prompt_token_count + self._counts.tool_use_prompt_token_count
        thought = self._counts.thoughts_token_count
        answer = self._counts.candidates_token_count + thought
        cached = {"cached_tokens": self._counts.cached_content_token_count}
        return Usage(prompt, answer, prompt + answer, cached, {"reasoning_tokens": thought})


def _finish(reason: str) -> str:
    """Raises for an answer that is none; what it stopped for must not be taken for an end."""
    if reason in FINISHES:
        return FINISHES[reason]
    if reason in FILTERED:
        return "content_filter"
    if reason in BAD_CALLS:
        raise BadAnswer("The model made a tool call that cannot be read.")
    raise ProviderError("The provider stopped its answer without an end.")
