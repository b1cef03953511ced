"""The canonical events of a run: AG-UI 1.0 (https://docs.ag-ui.com), dicts that are encoded once for every reader."""

import time
from typing import Any, Literal, NamedTuple, get_args

import orjson

from core.errors import ApplicationError
from core.validation import storable
from usage.prices import Tokens

TERMINAL = frozenset({"RUN_FINISHED", "RUN_ERROR"})
# What is said piece by piece, and the field that names the message or call that a piece belongs to.
DELTAS = {
    "TEXT_MESSAGE_CONTENT": "messageId",
    "REASONING_MESSAGE_CONTENT": "messageId",
    "TOOL_CALL_ARGS": "toolCallId",
}
# The names of the platform's own CUSTOM events: it acts on them, and so do clients. No template may use them.
CustomName = Literal[
    "attempt_restarted",
    "checkpoint",
    "empty_answer",
    "heard",
    "message_snapshot",
    "presence",
    "refusal",
    "resume",
    "step_failed",
]
RESERVED = frozenset(get_args(CustomName))
PAUSED = {"paused": True}  # metadata of a step's events that are there only because the run waits for a person


class Event(NamedTuple):
    """`at` is milliseconds since 1970; `data` is the AG-UI event; `seq` counts from 1.

    `said` is the encoding of what it says besides its type and time. `first` is below `seq` where a stretch of pieces
    was merged later: the event then stands for all from there on.
    """

    seq: int
    at: int
    type: str
    data: dict[str, Any]
    said: bytes
    first: int

    @property
    def fields(self) -> dict[str, Any]:
        """What it says besides its type and time."""
        return {name: value for name, value in self.data.items() if name not in ("type", "timestamp")}

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL and not self.is_interrupt

    @property
    def is_interrupt(self) -> bool:
        """The run waits for a person; when it goes on, RUN_STARTED comes again."""
        return self.type == "RUN_FINISHED" and self.data.get("outcome", {}).get("type") == "interrupt"

    @property
    def json(self) -> bytes:
        """The AG-UI event, for a reader."""
        return self.json_with(b"")

    def json_with(self, more: bytes) -> bytes:
        """`more` are fields that it does not have, each after a comma."""
        rest = b"}" if self.said == b"{}" else b"," + self.said[1:]
        return b'{"type":"%s","timestamp":%d%s%s' % (self.type.encode(), self.at, more, rest)

    @property
    def row(self) -> bytes:
        """For the event log's statements: type, time and the rest as a JSON array."""
        return b'["%s",%d,%s]' % (self.type.encode(), self.at, self.said)


def make_event(seq: int, type: str, fields: dict[str, Any], at: int | None = None) -> Event:
    at = now_ms() if at is None else at
    return Event(seq, at, type, {"type": type, "timestamp": at, **fields}, _encoded(fields), seq)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _encoded(fields: dict[str, Any]) -> bytes:
    """One value that PostgreSQL refuses would hold up all that is stored with it, so none gets through."""
    try:
        json = orjson.dumps(fields, default=str)
    except TypeError:
        return orjson.dumps(storable(fields))
    return orjson.dumps(storable(fields)) if b"\\u0000" in json else json


def stored_event(seq: int, at: int, type: str, fields: dict[str, Any]) -> Event:
    """As `RunEvent` has it."""
    merged = (fields.get("metadata") or {}).get("merged")
    data = {"type": type, "timestamp": at, **fields}
    return Event(seq, at, type, data, orjson.dumps(fields), merged["first"] if merged else seq)


def without_nones(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def run_started(thread_id: str, run_id: str, **more: Any) -> dict[str, Any]:
    return {"threadId": thread_id, "runId": run_id, **more}


def run_interrupted(thread_id: str, run_id: str, interrupts: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of the RUN_FINISHED by which a run waits for persons."""
    return {"threadId": thread_id, "runId": run_id, "outcome": {"type": "interrupt", "interrupts": interrupts}}


def run_finished(thread_id: str, run_id: str, *, finish_reason: str, model: str, tokens: Tokens) -> dict[str, Any]:
    details = {
        "reasoningTokens": tokens.reasoning,
        "cachedInputTokens": tokens.cached,
        "cacheWriteInputTokens": tokens.cache_write,
    }
    usage = {
        "model": model,
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "totalTokens": tokens.total,
        **{name: count for name, count in details.items() if count},
    }
    result = {"finishReason": finish_reason}
    return {"threadId": thread_id, "runId": run_id, "result": result, "usage": [usage]}


def run_error(error: ApplicationError) -> dict[str, Any]:
    """The fields of RUN_ERROR; its metadata has what an edge needs to answer with the same error."""
    metadata = without_nones(
        status=error.status, type=error.type, param=error.param, details=error.details, retry_after=error.retry_after
    )
    return {"message": error.message, "code": error.code, "metadata": metadata}


def error_of(event: Event) -> ApplicationError:
    """The error that a RUN_ERROR tells of."""
    told = event.data.get("metadata") or {}
    error = ApplicationError(
        event.data["message"],
        code=event.data.get("code"),
        param=told.get("param"),
        details=told.get("details"),
        retry_after=told.get("retry_after"),
    )
    error.status, error.type = told.get("status", error.status), told.get("type", error.type)
    return error


def custom(name: CustomName, value: Any) -> dict[str, Any]:
    """The fields of a CUSTOM event of the platform's own."""
    return {"name": name, "value": value}


def attempt_restarted(attempt: int, keep: int) -> dict[str, Any]:
    """The fields of the CUSTOM event by which clients drop all events of the run after the seq `keep`."""
    return custom("attempt_restarted", {"attempt": attempt, "keep": keep})


def restart_of(event: Event) -> int | None:
    """The seq up to which an `attempt_restarted` keeps what was told; None for any other event."""
    if event.type == "CUSTOM" and event.data["name"] == "attempt_restarted":
        keep: int = event.data["value"]["keep"]
        return keep
    return None


def socket_json(event: Event, run_id: str) -> str:
    """An event for a socket, with its place in its run."""
    if "metadata" not in event.data:
        return event.json_with(b',"metadata":{"seq":%d,"run_id":"%s"}' % (event.seq, run_id.encode())).decode()
    metadata = {**(event.data["metadata"] or {}), "seq": event.seq, "run_id": run_id}
    return orjson.dumps({**event.data, "metadata": metadata}).decode()
