"""The canonical events of a run: AG-UI 1.0 (https://docs.ag-ui.com), dicts that are encoded once for every reader."""

import time
from dataclasses import dataclass
from typing import Any

import orjson

TERMINAL = frozenset({"RUN_FINISHED", "RUN_ERROR"})


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is milliseconds since 1970; `data` is the AG-UI event and `json` its encoding; `seq` counts from 1."""

    seq: int
    at: int
    data: dict[str, Any]
    json: bytes

    @property
    def type(self) -> str:
        kind: str = self.data["type"]
        return kind

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL


def make_event(seq: int, type: str, fields: dict[str, Any]) -> Event:
    at = time.time_ns() // 1_000_000
    data = {"type": type, "timestamp": at, **fields}
    return Event(seq, at, data, orjson.dumps(data, default=str))


def stored_event(seq: int, data: dict[str, Any]) -> Event:
    return Event(seq, data["timestamp"], data, orjson.dumps(data))


def without_nones(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def run_started(thread_id: str, run_id: str) -> dict[str, Any]:
    return {"threadId": thread_id, "runId": run_id}


def run_finished(
    thread_id: str, run_id: str, *, finish_reason: str, model: str, prompt_tokens: int, completion_tokens: int
) -> dict[str, Any]:
    usage = {
        "model": model,
        "inputTokens": prompt_tokens,
        "outputTokens": completion_tokens,
        "totalTokens": prompt_tokens + completion_tokens,
    }
    result = {"finishReason": finish_reason}
    return {"threadId": thread_id, "runId": run_id, "result": result, "usage": [usage]}


def socket_json(event: Event, run_id: str) -> str:
    """An event for a socket, with its place in its run."""
    metadata = {**event.data.get("metadata", {}), "seq": event.seq, "run_id": run_id}
    return orjson.dumps({**event.data, "metadata": metadata}).decode()
