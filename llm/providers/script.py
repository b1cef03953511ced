"""What the scripted model will say to a request: a script, or the rule, as a plan of words, calls and failures."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import orjson

from llm.decoding import decoder_of
from llm.exceptions import ProviderRejected
from llm.providers.json_sample import Unsatisfiable, sample
from llm.wire import ChatRequest

MARK = "#script"
LONGEST_DELAY_MS = 60_000
MOST_WORDS = 100_000

DelayMs = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_DELAY_MS)]


class Step(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`delay_ms` passes before each word, call or failure of the step."""

    delay_ms: DelayMs = 0


class Say(Step):
    say: str


class Repeat(Step):
    repeat: str
    times: Annotated[int, msgspec.Meta(ge=0, le=MOST_WORDS)] = 1


class Tool(Step):
    tool: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    args: dict[str, Any] = {}


class Json(Step):
    json: Any


class FailStep(Step):
    fail: Literal[429, 500, "cut", "hang"]
    retry_after: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None


STEPS: dict[str, type[Step]] = {"say": Say, "repeat": Repeat, "tool": Tool, "json": Json, "fail": FailStep}
for _kind in STEPS.values():
    decoder_of(_kind)  # here, and not first by two threads at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    delay: float = 0.0  # seconds before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Word(Item):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Item):
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Item):
    fail: int | str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Item):
    reason: str


def plan_answer(request: ChatRequest) -> list[Item]:
    """Raises ProviderRejected for a script that is malformed and a schema that no rule can satisfy."""
    asked, called = _last_question(request.messages)
    if asked.lstrip().startswith(MARK):
        items = _play(parse_script(asked.lstrip().removeprefix(MARK)), request, called)
    else:
        items = _rule(asked, request, called)
    return _finish(_limit(_stop(items, request), request))


def _last_question(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The last user message, and how many of our tool calls were answered since."""
    called = 0
    for message in reversed(messages):
        if message.get("role") == "user":
            return text_of(message), called
        called += bool(message.get("tool_calls"))
    return "", called


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def parse_script(text: str) -> list[Step]:
    try:
        steps = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = (
            f": {error.msg} at line {error.lineno} column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        raise _malformed(f"What follows {MARK} is no JSON{where}.", "script") from None
    if not isinstance(steps, list):
        raise _malformed(f"What follows {MARK} must be a JSON array of steps.", "script")
    return [_step(step, number) for number, step in enumerate(steps)]


def _step(step: Any, number: int) -> Step:
    verbs = [verb for verb in STEPS if isinstance(step, dict) and verb in step]
    if len(verbs) != 1:
        raise _malformed(f"Step {number + 1} must have exactly one of {', '.join(STEPS)}.", f"script.{number}")
    try:
        return msgspec.convert(step, STEPS[verbs[0]])
    except msgspec.ValidationError as error:
        fault, _, path = str(error).partition(" - at `$")
        where = f"script.{number}{path.rstrip('`')}"
        raise _malformed(f"Step {number + 1} is wrong at {where}: {fault}.", where) from None


def _malformed(message: str, path: str) -> ProviderRejected:
    details = [{"path": path, "code": "invalid_script", "message": message}]
    return ProviderRejected(message, code="invalid_script", param="messages", details=details)


def _play(steps: list[Step], request: ChatRequest, called: int) -> list[Item]:
    """The steps after the `called`-th tool call, up to the next one."""
    tools = [place for place, step in enumerate(steps) if isinstance(step, Tool)]
    start = tools[called - 1] + 1 if 0 < called <= len(tools) else len(steps) if called else 0
    items: list[Item] = []
    for step in steps[start:]:
        items.extend(_items(step, items))
        if isinstance(step, Tool):
            return items
    if not items and "response_format" in request.params:
        return _document(request) or items
    return items


def _items(step: Step, before: list[Item]) -> Iterator[Item]:
    delay = step.delay_ms / 1000
    match step:
        case Say():
            yield from _words(step.say, delay, before)
        case Repeat():
            yield from _words(" ".join([step.repeat] * step.times), delay, before)
        case Json():
            yield from _words(orjson.dumps(step.json).decode(), delay, before)
        case Tool():
            yield Call(name=step.tool, arguments=orjson.dumps(step.args).decode(), delay=delay)
        case FailStep():
            yield Fail(fail=step.fail, retry_after=step.retry_after, delay=delay)


def _words(text: str, delay: float = 0.0, before: list[Item] | None = None) -> list[Item]:
    """One item a word, blanks in front; a step's text is set off from the text of the step before."""
    pieces = re.findall(r"\s*\S+", text) or ([text] if text else [])
    if pieces:
        pieces[-1] += text[sum(map(len, pieces)) :]
        last = before[-1] if before else None
        if isinstance(last, Word) and not last.text[-1].isspace() and not pieces[0][0].isspace():
            pieces[0] = f" {pieces[0]}"
    return [Word(text=piece, delay=delay) for piece in pieces]


def _rule(asked: str, request: ChatRequest, called: int) -> list[Item]:
    forced = None if called else _forced_tool(request)
    if forced is not None:
        arguments = _sample(forced.get("parameters") or {"type": "object"})
        return [Call(name=str(forced.get("name") or ""), arguments=arguments)]
    return _document(request) or _words(f"You said: {asked}")


def _forced_tool(request: ChatRequest) -> dict[str, Any] | None:
    """The function that `tool_choice` makes the model call."""
    choice = request.params.get("tool_choice")
    functions = [tool.get("function") or {} for tool in request.params.get("tools") or ()]
    if choice == "required":
        return functions[0] if functions else None
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        return next((function for function in functions if function.get("name") == name), None)
    return None


def _document(request: ChatRequest) -> list[Item]:
    wanted = request.params.get("response_format") or {}
    match wanted.get("type"):
        case "json_object":
            return _words("{}")
        case "json_schema":
            return _words(_sample((wanted.get("json_schema") or {}).get("schema") or {"type": "object"}))
    return []


def _sample(schema: dict[str, Any]) -> str:
    try:
        return orjson.dumps(sample(schema)).decode()
    except Unsatisfiable as error:
        message = f"The scripted model cannot make a document for this schema: {error}. Give one with a json step."
        raise ProviderRejected(message, code="schema_not_supported", param="response_format") from None


def _stop(items: list[Item], request: ChatRequest) -> list[Item]:
    """Cut before the first stop sequence, wherever the words break it."""
    stops = request.params.get("stop") or []
    text = "".join(item.text for item in items if isinstance(item, Word))
    found = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop]
    room = min((place for place in found if place >= 0), default=-1)
    if room < 0:
        return items
    kept: list[Item] = []
    for item in items:
        if isinstance(item, Word):
            if len(item.text) >= room:
                part = item.text[:room]
                return [*kept, *([Word(text=part, delay=item.delay)] if part else []), Finish(reason="stop")]
            room -= len(item.text)
        kept.append(item)
    return kept


def _limit(items: list[Item], request: ChatRequest) -> list[Item]:
    most = request.params.get("max_completion_tokens") or request.params.get("max_tokens")
    if not isinstance(most, int):
        return items
    kept: list[Item] = []
    words = 0
    for item in items:
        if words == most and isinstance(item, Word | Call):
            return [*kept, Finish(reason="length")]
        words += isinstance(item, Word)
        kept.append(item)
    return kept


def _finish(items: list[Item]) -> list[Item]:
    if items and isinstance(items[-1], Finish):
        return items
    called = any(isinstance(item, Call) for item in items)
    return [*items, Finish(reason="tool_calls" if called else "stop")]
