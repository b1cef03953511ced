"""What the events of a run record: every answer of its models and tools, and the timeline that a replay is held to.

A place is the number of events before something was said, pieces not counted: they come as they may. It brings answers
that were given at once back into the recorded order.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from core.errors import ApplicationError
from llm.wire import Delta, ToolCallDelta
from runs.events import DELTAS, PAUSED, Event, error_of
from runs.transcript import step_of, still_valid

_ATTEMPTS = frozenset({"checkpoint", "attempt_restarted"})
_STEPS = frozenset({"STEP_STARTED", "STEP_FINISHED"})  # one that had just begun beside what failed counts as little
_ENDS = frozenset({"TEXT_MESSAGE_END", "REASONING_MESSAGE_END", "REASONING_END", "TOOL_CALL_END"})
# What a run fails with by itself; every other error came from outside: its provider, its server or who stopped it.
_OWN_ERRORS = frozenset({"agent_unusable", "client_tools_unsupported", "tool_name_clash"})
_IDS = {"messageId": "message", "parentMessageId": "message", "toolCallId": "call"}
_TEXTS = ("delta", "content")


@dataclass(slots=True)
class Part:
    """A stretch of one answer: `kind` is "text", "reasoning", "refusal" or "call"."""

    place: int
    kind: str
    pieces: list[str] = field(default_factory=list)
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    place: int
    error: ApplicationError


@dataclass(slots=True)
class Said:
    """One answer of a model; `end` is the place of its end, None where it was cut or where that is not known.

    `failed`: it was cut by what an agent then tried again, or went on without. `step`: of which step of the agent.
    """

    failed: Failure | None = None
    step: str = ""
    parts: list[Part] = field(default_factory=list)
    end: int | None = None
    finish_reason: str = "stop"
    open: Part | None = None

    def begin(self, part: Part) -> None:
        """The end of the part before it was said together with its beginning."""
        part.place = part.place if self.end is None else self.end
        self.end, self.open = None, part
        self.parts.append(part)

    @property
    def has_calls(self) -> bool:
        return any(part.kind == "call" for part in self.parts)

    def deltas(self) -> list[tuple[int, Delta]]:
        index, found = 0, []
        for part in self.parts:
            text, delta = "".join(part.pieces), Delta()
            if part.kind == "call":
                delta.tool_calls = [ToolCallDelta(index, part.call_id, part.name, text)]
                index += 1
            else:
                setattr(delta, part.kind, text)
            found.append((part.place, delta))
        return found


@dataclass(frozen=True, slots=True)
class Result:
    place: int
    content: str
    is_error: bool


class Recording:
    """`total` is the place of the run's end, and `stopped` whether it was ended from outside."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = comparable(events)
        self.results: dict[str, list[Result]] = {}  # by the call's id; "" for the calls that no model made
        self.heard: list[tuple[int, dict[str, Any]]] = []
        self.took: dict[str, int] = {}  # milliseconds, by step
        self.steps: defaultdict[tuple[str, str], list[int]] = defaultdict(list)  # places of what was told of a step
        self.total = 0
        self._answers: dict[str, Said] = {}
        self._calls: dict[str, tuple[Said, Part]] = {}
        for event in self.events[:-1]:
            self._read(event)
            self.total += event.type not in DELTAS
        self._last = self.events[-1]
        self.answers = [self._answers[id] for id in sorted(self._answers)]  # ids sort as the answers were opened
        self._finish()

    @property
    def error(self) -> ApplicationError:
        return error_of(self._last)

    @property
    def stopped(self) -> bool:
        if self._last.type != "RUN_ERROR":
            return False
        return self.error.type != "internal_error" and self.error.code not in _OWN_ERRORS

    def _finish(self) -> None:
        """Why an answer ended is recorded of empty ones, and of the run: its last answer ended so."""
        for said in self.answers:
            if said.has_calls:
                said.finish_reason = "tool_calls"
            if said.open is None and said.parts:  # a refusal has no end of its own
                said.end = said.parts[-1].place + 1
        last = self.answers[-1] if self.answers else Said()
        if last.parts and not last.has_calls and self._last.type == "RUN_FINISHED":
            last.finish_reason = self._last.data["result"]["finishReason"]

    def _answer(self, message_id: str, step: str = "") -> Said:
        said = self._answers.setdefault(message_id.removesuffix("-reasoning"), Said())
        said.step = said.step or step
        return said

    def _read(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "TEXT_MESSAGE_START" if not _is_templates(data):
                self._answer(data["messageId"], step_of(data)).begin(Part(self.total, "text"))
            case "REASONING_START":
                self._answer(data["messageId"], step_of(data)).begin(Part(self.total, "reasoning"))
            case "TOOL_CALL_START" if not _is_templates(data):
                self._call(data)
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                self._piece(data)
            case "TOOL_CALL_ARGS" if data["toolCallId"] in self._calls:
                self._calls[data["toolCallId"]][1].pieces.append(data["delta"])
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END":
                self._end(self._answers.get(data["messageId"].removesuffix("-reasoning")))
            case "TOOL_CALL_END" if data["toolCallId"] in self._calls:
                self._end(self._calls[data["toolCallId"]][0])
            case "TOOL_CALL_RESULT":
                self._result(data)
            case "STEP_STARTED" | "STEP_FINISHED":
                self._step(event.type, data)
            case "CUSTOM":
                self._custom(data)

    def _piece(self, data: dict[str, Any]) -> None:
        said = self._answers.get(data["messageId"].removesuffix("-reasoning"))
        if said is not None and said.open is not None:
            said.open.pieces.append(data["delta"])

    def _call(self, data: dict[str, Any]) -> None:
        said = self._answer(data["parentMessageId"], step_of(data))
        part = Part(self.total, "call", call_id=data["toolCallId"], name=data["toolCallName"])
        said.begin(part)
        self._calls[part.call_id] = said, part

    def _end(self, said: Said | None) -> None:
        if said is not None and said.end is None:
            said.end = self.total

    def _result(self, data: dict[str, Any]) -> None:
        call_id = data["toolCallId"]
        is_error = bool((data.get("metadata") or {}).get("error"))
        results = self.results.setdefault(call_id if call_id in self._calls else "", [])
        results.append(Result(self.total, data["content"], is_error))

    def _step(self, type: str, data: dict[str, Any]) -> None:
        self.steps[type, data["stepName"]].append(self.total)
        if "metadata" in data:
            self.took[data["stepName"]] = data["metadata"]["ms"]

    def _custom(self, data: dict[str, Any]) -> None:
        message_id = (data.get("metadata") or {}).get("messageId")
        if data["name"] == "heard":
            self.heard.append((self.total, data["value"]))
        elif message_id and data["name"] == "refusal":
            self._answer(message_id, step_of(data)).parts.append(Part(self.total, "refusal", [data["value"]]))
        elif message_id and data["name"] == "empty_answer":
            self._answers[message_id] = Said(end=self.total, finish_reason=data["value"], step=step_of(data))
        elif data["name"] == "step_failed":
            self._failed(data["value"], data["metadata"]["cut"])
        elif isinstance(data["value"], dict) and "step" in data["value"]:
            self.steps[data["name"], str(data["value"]["step"])].append(self.total)

    def _failed(self, value: dict[str, Any], cut: Sequence[str]) -> None:
        error = ApplicationError(value["message"], code=value["code"])
        error.status = 503 if value["again"] else 400  # by which the step tries again or not
        answers = [self._answer(message_id, value["step"]) for message_id in cut]
        place = min((said.end for said in answers if said.end is not None), default=self.total)  # ends are told with it
        self.steps["step_failed", value["step"]].append(place)
        for said in answers:
            said.failed = Failure(place, error)


def _is_templates(data: dict[str, Any]) -> bool:
    return (data.get("metadata") or {}).get("source") == "template"


def comparable(events: Iterable[Event]) -> list[Event]:
    """The events that still count, without those about attempts, without the times for which the run waited for a
    person, and without what a failure left to be ended.
    """
    first, *found = still_valid(events)
    kept = [first, *(event for event in found if not _is_break(event))]
    last = len(kept) - 1
    if kept[last].type == "RUN_ERROR":
        while kept[last - 1].type in _ENDS or kept[last - 1].type in _STEPS:
            last -= 1
    return [*kept[:last], kept[-1]]


def _is_break(event: Event) -> bool:
    if event.type == "CUSTOM":
        return event.data["name"] in _ATTEMPTS
    return event.is_interrupt or event.type == "RUN_STARTED" or event.data.get("metadata") == PAUSED


class _Line:
    def __init__(self, head: str) -> None:
        self.head = head
        self.pieces: list[str] = []

    def lines(self) -> list[str]:
        text = "".join(self.pieces)
        return [self.head, *(f"    {line}" for line in text.split("\n") if text)]


def timeline(events: Sequence[Event]) -> list[str]:
    """Lines that are the same for two executions that said the same: without times, tokens and random ids.

    The pieces of a message or call are joined below its beginning.
    """
    numbers: dict[tuple[str, str], str] = {}
    found: list[_Line] = []
    saying: dict[Any, _Line] = {}
    for event in events:
        id = event.data.get("toolCallId") or event.data.get("messageId")
        if event.type in DELTAS:
            saying[id].pieces.append(event.data["delta"])
            continue
        found.append(_Line(_head(event, numbers)))
        found[-1].pieces += [event.data[name] for name in _TEXTS if name in event.data]
        if event.type.endswith("_START"):
            saying[id] = found[-1]
    return [line for one in found for line in one.lines()]


def _head(event: Event, numbers: dict[tuple[str, str], str]) -> str:
    fields = {name: value for name, value in event.data.items() if name not in ("type", "timestamp", "usage", *_TEXTS)}
    if error := (fields.pop("metadata", None) or {}).get("error"):
        fields["error"] = error
    return " ".join([event.type, *(f"{name}={_value(name, value, numbers)}" for name, value in sorted(fields.items()))])


def _value(name: str, value: Any, numbers: dict[tuple[str, str], str]) -> str:
    if name not in _IDS:
        return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    kind = _IDS[name]
    known = (kind, str(value).removesuffix("-reasoning"))
    return numbers.setdefault(known, f"{kind}-{len(numbers) + 1}")
