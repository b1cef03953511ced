"""A run's stored events as an operator reads them: spans for the waterfall, rows for the table."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from runs.models import Run, RunEvent
from sessions_app.texts import text_of

MOST_SPANS = 500
ROWS_PER_PAGE = 200
EXCERPT = 400  # characters of a row's text
_DELTAS = ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS")
_MODEL_STARTS = ("TEXT_MESSAGE_START", "REASONING_START", "TOOL_CALL_START")
_ENDS = {
    "TEXT_MESSAGE_END": ("messageId", "model"),
    "REASONING_END": ("messageId", "model"),
    "TOOL_CALL_END": ("toolCallId", "model"),
    "STEP_FINISHED": ("stepName", "step"),
}


@dataclass(slots=True)
class Span:
    """`kind` is "wait", "model", "tool" or "step"; times are milliseconds from the run's start."""

    kind: str
    label: str
    start: int
    end: int
    failed: bool = False
    left: float = 0.0  # per cent of the run's time
    width: float = 0.0

    @property
    def ms(self) -> int:
        return self.end - self.start


def spans(run: Run, events: Iterable[RunEvent]) -> list[Span]:
    """In the order in which they began; what never ended lasts until the run's last event."""
    origin = run.started_at or run.created_at
    reader = _Reader(origin)
    for event in events:
        reader.read(event)
    total = max([1, reader.now, _ms(origin, run.finished_at) if run.finished_at else 0])
    found = reader.finish()[:MOST_SPANS]
    for span in found:
        span.left = round(100 * span.start / total, 2)
        span.width = max(0.4, round(100 * span.ms / total, 2))
    return found


class _Reader:
    def __init__(self, origin: datetime) -> None:
        self.origin = origin
        self.now = 0
        self._open: dict[str, Span] = {}
        self._names: dict[str, str] = {}
        self._waiting_since: int | None = 0
        self._done: list[Span] = []

    def read(self, event: RunEvent) -> None:
        data: dict[str, Any] = event.data
        self.now = max(self.now, _ms(self.origin, event.at))
        if event.type in _MODEL_STARTS:
            self._model_starts(event.type, data)
        elif event.type == "STEP_STARTED":
            self._start("stepName", data, Span("step", str(data.get("stepName", "")), self.now, self.now))
        elif event.type in _ENDS:
            self._end(str(data.get(_ENDS[event.type][0], "")))
        elif event.type == "RUN_FINISHED" and "outcome" in data:
            self._open["person"] = Span("wait", "Waiting for a person", self.now, self.now)
        elif event.type == "RUN_STARTED":
            self._end("person")
        elif event.type == "TOOL_CALL_RESULT":
            self._tool_result(data)

    def _model_starts(self, kind: str, data: dict[str, Any]) -> None:
        if self._waiting_since is not None:
            self._done.append(Span("wait", "Waiting for the model", self._waiting_since, self.now))
            self._waiting_since = None
        if kind == "TOOL_CALL_START":
            name = self._names[str(data.get("toolCallId", ""))] = str(data.get("toolCallName", ""))
            self._start("toolCallId", data, Span("model", f"Model calls {name}", self.now, self.now))
        else:
            label = "Model reasons" if kind == "REASONING_START" else "Model answers"
            self._start("messageId", data, Span("model", label, self.now, self.now))

    def _tool_result(self, data: dict[str, Any]) -> None:
        metadata = data.get("metadata") or {}
        name = self._names.get(str(data.get("toolCallId", "")), "tool")
        began = max(0, self.now - int(metadata.get("ms") or 0))
        self._done.append(Span("tool", f"Tool {name}", began, self.now, failed=bool(metadata.get("error"))))
        self._waiting_since = self.now

    def _start(self, key: str, data: dict[str, Any], span: Span) -> None:
        self._open[str(data.get(key, ""))] = span

    def _end(self, key: str) -> None:
        if (span := self._open.pop(key, None)) is not None:
            span.end = self.now
            self._done.append(span)

    def finish(self) -> list[Span]:
        for key in list(self._open):
            self._end(key)
        return sorted(self._done, key=lambda span: (span.start, span.end))


def _ms(origin: datetime, at: datetime) -> int:
    return max(0, (at - origin) // timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True)
class Row:
    """One event, or the consecutive pieces of one message or call; `seq` is the first's."""

    seq: int
    last_seq: int
    ms: int
    type: str
    text: str

    @property
    def count(self) -> int:
        return self.last_seq - self.seq + 1


def rows(run: Run, events: Iterable[RunEvent]) -> list[Row]:
    origin = run.started_at or run.created_at
    return [_row(origin, list(group)) for _, group in groupby(events, key=_belongs_to)]


def _belongs_to(event: RunEvent) -> tuple[Any, ...]:
    if event.type not in _DELTAS:
        return (event.seq,)
    return event.type, event.data.get("messageId"), event.data.get("toolCallId")


def _row(origin: datetime, group: list[RunEvent]) -> Row:
    first = group[0]
    text = "".join(_pieces(group)) if first.type in _DELTAS else _told(first)
    shown = text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"
    return Row(first.seq, group[-1].seq, _ms(origin, first.at), first.type, shown)


def _told(event: RunEvent) -> str:
    """Of a run's start who asked what, of any other event all that it says."""
    data: dict[str, Any] = event.data
    if event.type != "RUN_STARTED" or "input" not in data:
        return json.dumps(data, ensure_ascii=False)
    about = data.get("metadata") or {}
    actor = about.get("actor") or {}
    asked = f"{actor.get('label')} ({actor.get('kind')}) asks {about.get('agent') or 'an agent'}"
    anew = f", in place of all from message {about['replaces_from']} on" if "replaces_from" in about else ""
    return "\n".join([f"{asked}{anew}:", *map(_message, data["input"]["messages"])])


def _message(message: dict[str, Any]) -> str:
    return f"{message.get('name') or message['role']}: {text_of(message.get('content'))}"


def _pieces(group: list[RunEvent]) -> Iterator[str]:
    for event in group:
        yield str(event.data.get("delta", ""))
