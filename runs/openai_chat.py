"""A run's events as OpenAI chat completions: chunks, or one answer.

Tool calls that the server runs by itself stay inside; those of the client's own tools go out.
"""

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from core.errors import ApplicationError
from runs import sse
from runs.events import Event
from runs.stream import RunStream


class ChatFormat:
    """What is the same in every chunk of one answer, and which tools are the client's."""

    def __init__(
        self, stream: RunStream, *, model: str, client_tools: Iterable[str], bare: bool, include_usage: bool = False
    ) -> None:
        self.stream = stream
        self.model = model
        self.client_tools = frozenset(client_tools)
        self.bare = bare  # a model called directly: nothing of ours is added
        self.include_usage = include_usage
        self._calls: dict[str, int] = {}
        self._speaking = ""  # the message whose text came last

    def _text(self, message_id: str, delta: str) -> str:
        """An agent may say several messages in one answer, around its tools: a blank line parts them."""
        apart = "\n\n" if self._speaking not in ("", message_id) else ""
        self._speaking = message_id
        return apart + delta

    def envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.stream.run_id.hex}",
            "object": kind,
            "created": self.stream.events[0].at // 1000 if self.stream.events else int(time.time()),
            "model": self.model,
        }

    def metadata(self) -> dict[str, str]:
        session: UUID | None = self.stream.session_id
        return {"session_id": self.stream.thread_id, "run_id": str(self.stream.run_id)} if session else {}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self.envelope("chat.completion.chunk"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self.envelope("chat.completion.chunk"), "choices": [], "usage": usage}

    def delta(self, event: Event) -> dict[str, Any] | None:
        """What an event adds to the answer."""
        data = event.data
        match event.type:
            case "TEXT_MESSAGE_CONTENT":
                return {"content": self._text(data["messageId"], data["delta"])}
            case "REASONING_MESSAGE_CONTENT":
                return {"reasoning_content": data["delta"]}
            case "CUSTOM" if data["name"] == "refusal":
                return {"refusal": data["value"]}
            case "TOOL_CALL_START" if self.bare or data["toolCallName"] in self.client_tools:
                index = self._calls[data["toolCallId"]] = len(self._calls)
                function = {"name": data["toolCallName"], "arguments": ""}
                call = {"index": index, "id": data["toolCallId"], "type": "function", "function": function}
                return {"tool_calls": [call]}
            case "TOOL_CALL_ARGS" if data["toolCallId"] in self._calls:
                call = {"index": self._calls[data["toolCallId"]], "function": {"arguments": data["delta"]}}
                return {"tool_calls": [call]}
        return None


def usage_of(event: Event) -> dict[str, int]:
    counted = event.data["usage"][0]
    return {
        "prompt_tokens": counted["inputTokens"],
        "completion_tokens": counted["outputTokens"],
        "total_tokens": counted["totalTokens"],
    }


async def chunks(form: ChatFormat) -> AsyncGenerator[bytes, None]:
    """The SSE frames of a streamed answer. A failure is an `error` event, never a clean finish."""
    yield _frame(form.chunk({"role": "assistant", "content": ""}))
    async with aclosing(form.stream.follow(idle=settings.HEARTBEAT_SECONDS)) as events:
        async for event in events:
            if event is None:
                yield sse.HEARTBEAT
                continue
            delta = form.delta(event)
            if delta is not None:
                yield _frame(form.chunk(delta))
            elif event.is_terminal:
                for frame in _ending(form, event):
                    yield frame


def _ending(form: ChatFormat, event: Event) -> Iterable[bytes]:
    if event.type == "RUN_ERROR":
        error = form.stream.error or ApplicationError("The run failed.")
        yield sse.frame(orjson.dumps(error.body()), event="error")
        return
    last = form.chunk({}, finish_reason=event.data["result"]["finishReason"])
    if form.metadata():
        last["metadata"] = form.metadata()
    yield _frame(last)
    if form.include_usage:
        yield _frame(form.usage_chunk(usage_of(event)))
    yield sse.frame(b"[DONE]")


def _frame(chunk: dict[str, Any]) -> bytes:
    return sse.frame(orjson.dumps(chunk))


async def completion(form: ChatFormat) -> dict[str, Any]:
    """The whole answer. Raises the run's error."""
    await form.stream.ended()
    if form.stream.error is not None:
        raise form.stream.error
    deltas = [delta for event in form.stream.events if (delta := form.delta(event)) is not None]
    last = form.stream.events[-1]
    choice = {
        "index": 0,
        "message": merged(deltas),
        "logprobs": None,
        "finish_reason": last.data["result"]["finishReason"],
    }
    answer = {**form.envelope("chat.completion"), "choices": [choice], "usage": usage_of(last)}
    return {**answer, "metadata": form.metadata()} if form.metadata() else answer


def merged(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant message that the deltas of an answer add up to."""
    text = "".join(delta.get("content") or "" for delta in deltas)
    reasoning = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    refusal = "".join(delta.get("refusal") or "" for delta in deltas)
    calls: dict[int, dict[str, Any]] = {}
    for fragment in (call for delta in deltas for call in delta.get("tool_calls") or ()):
        if "id" in fragment:
            calls[fragment["index"]] = {
                "id": fragment["id"],
                "type": "function",
                "function": {**fragment["function"]},
            }
        else:
            calls[fragment["index"]]["function"]["arguments"] += fragment["function"]["arguments"]
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else "")}
    message |= {"refusal": refusal or None, "annotations": []}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message
