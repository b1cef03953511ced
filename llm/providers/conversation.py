"""OpenAI's request, read for the wires that say the same in other words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from llm.exceptions import ProviderRejected
from llm.wire import ChatRequest

SYSTEM = ("system", "developer")
_ANSWER_CHANGING = ("logprobs", "audio", "functions", "function_call")


@dataclass(frozen=True, slots=True)
class Media:
    """What a part of a message carries besides text: as base64 `data`, or where it is."""

    kind: str  # image, audio, file
    type: str  # of its content, such as image/png; "" where only the URL tells
    data: str = ""
    url: str = ""


Part = str | Media


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """An answer in JSON. `schema` is None when any object will do."""

    schema: dict[str, Any] | None


def refuse_unsupported(request: ChatRequest) -> None:
    """What would change the answer's shape is refused; what only tunes it, such as `seed`, may be passed over."""
    for name in _ANSWER_CHANGING:
        if request.params.get(name):
            raise unsupported(f"This provider does not support '{name}': leave it out.", name)


def unsupported(message: str, param: str) -> ProviderRejected:
    return ProviderRejected(message, code="unsupported_value", param=param)


def parts_of(message: dict[str, Any]) -> Iterator[Part]:
    """What a message says, without empty texts. Raises ProviderRejected for a part that is not understood."""
    content = message.get("content")
    for part in [content] if isinstance(content, str) else content or ():
        text = part if isinstance(part, str) else part.get("text") or part.get("refusal")
        if text:
            yield str(text)
        elif isinstance(part, dict) and part.get("type") not in ("text", "refusal"):
            yield _media(part)


def _media(part: dict[str, Any]) -> Media:
    kind = str(part.get("type"))
    held = part.get(kind)
    held = {"url": held} if isinstance(held, str) else held or {}
    if kind == "image_url":
        return _from_url("image", str(held.get("url") or ""))
    if kind == "input_audio":
        return Media("audio", f"audio/{held.get('format') or 'wav'}", str(held.get("data") or ""))
    if kind == "file" and held.get("file_data"):
        return _from_url("file", str(held["file_data"]))
    raise unsupported(f"This provider takes no part of the type '{kind}' in a message.", "messages")


def _from_url(kind: str, url: str) -> Media:
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return Media(kind, head.removeprefix("data:").removesuffix(";base64"), data)
    if not url.startswith(("http://", "https://")):
        raise unsupported("An image or file is a data: URL in base64, or the URL of one.", "messages")
    return Media(kind, "", url=url)


def text_of(message: dict[str, Any]) -> str:
    """Only the words: for roles that have nothing else."""
    return "".join(part for part in parts_of(message) if isinstance(part, str))


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """A past call's arguments, which a model may have got wrong: then they are shown to it as they were."""
    text = call["function"].get("arguments") or "{}"
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"invalid_arguments": text}


def extra_of(call: dict[str, Any], provider: str) -> dict[str, Any]:
    """What a provider wants back with a past call; a client may have made anything of it."""
    extra = call.get("extra_content")
    found = extra.get(provider) if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else {}


def tools_of(request: ChatRequest) -> list[Tool]:
    """Raises ProviderRejected for a tool that is no function."""
    tools = []
    for tool in request.params.get("tools") or ():
        function = tool.get("function")
        if not isinstance(function, dict):
            raise unsupported("This provider takes tools of the type 'function' only.", "tools")
        schema = {"type": "object", **(function.get("parameters") or {"properties": {}})}
        tools.append(Tool(function["name"], function.get("description") or "", schema))
    return tools


def choice_of(request: ChatRequest) -> str | Tool | None:
    """`auto`, `none`, `required`, or the one tool to call; None where nothing is said."""
    choice = request.params.get("tool_choice")
    if choice is None or choice in ("auto", "none", "required"):
        return choice
    name = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    for tool in tools_of(request):
        if tool.name == name:
            return tool
    raise unsupported("'tool_choice' must be auto, none, required, or name one of the tools.", "tool_choice")


def format_of(request: ChatRequest) -> Format | None:
    """None for plain text."""
    wanted = request.params.get("response_format") or {}
    match wanted.get("type"):
        case "json_schema":
            return Format((wanted.get("json_schema") or {}).get("schema") or {"type": "object"})
        case "json_object":
            return Format(None)
    return None


def max_tokens_of(request: ChatRequest) -> int | None:
    return request.params.get("max_completion_tokens") or request.params.get("max_tokens")


def stop_of(request: ChatRequest) -> list[str]:
    stop = request.params.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or ())


def renamed(request: ChatRequest, names: dict[str, str]) -> dict[str, Any]:
    """The parameters that are only called otherwise, by their new names."""
    return {new: request.params[old] for old, new in names.items() if request.params.get(old) is not None}


def merged(turns: Iterable[dict[str, Any]], content: str) -> list[dict[str, Any]]:
    """Turns of the same role as one: results of parallel calls must stand together. Empty turns are left out."""
    whole: list[dict[str, Any]] = []
    for turn in turns:
        if not turn[content]:
            continue
        if whole and whole[-1]["role"] == turn["role"]:
            whole[-1][content] = [*whole[-1][content], *turn[content]]
        else:
            whole.append(turn)
    return whole
