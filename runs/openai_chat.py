"""A run's events as OpenAI chat completions: chunks, or one answer.

Tool calls that the server runs by itself stay inside; those of the client's own tools go out.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

import orjson

from core.errors import ApplicationError, NotFound
from core.request_context import current_request
from runs import sse
from runs.events import Event, error_of, restart_of
from runs.models import Run
from runs.transcript import step_of, still_valid


class AnswerChanged(ApplicationError):
    """Another attempt of the run says something else than the chunks that were sent: they cannot be taken back."""

    status, type, code = 503, "unavailable", "attempt_restarted"


class ChatFormat:
    """What is the same in every chunk of one answer, and which tools are the client's."""

    def __init__(
        self, run: Run, *, model: str, client_tools: Iterable[str], bare: bool, include_usage: bool = False
    ) -> None:
        self.run = run
        self.model = model
        self.client_tools = frozenset(client_tools)
        self.bare = bare  # a model called directly: nothing of ours is added
        self.include_usage = include_usage
        self._calls: dict[str, int] = {}
        self._first_call_seq = 0
        self._speaking = ""  # the message whose text came last
        self._of_steps: set[str] = set()  # ids of messages that belong to the agent's steps, and not to its answer
        self._said: list[tuple[int, str, str]] = []  # seq, message and text of what this attempt has said
        self._sent = ""  # text
        self._matched: int | None = None  # characters of it that another attempt has said again

    def _text(self, message_id: str, delta: str) -> str:
        """An agent may say several messages in one answer, around its tools: a blank line parts them."""
        apart = "\n\n" if self._speaking not in ("", message_id) else ""
        self._speaking = message_id
        return apart + delta

    def _unsent(self, text: str) -> str:
        """What of `text` the client lacks. Raises AnswerChanged when an attempt says something else than before."""
        if self._matched is None:
            self._sent += text
            return text
        known = self._sent[self._matched : self._matched + len(text)]
        if not text.startswith(known):
            message = "The run was started again and answers otherwise; read its answer with GET /v1/runs/{}/events."
            raise AnswerChanged(message.format(self.run.id))
        self._matched += len(known)
        if self._matched == len(self._sent):
            self._sent, self._matched = self._sent + text[len(known) :], None
        return text[len(known) :]

    def restart(self, keep: int) -> None:
        """What was said after the seq `keep` does not count; but the client has it."""
        if self._calls and self._first_call_seq > keep:
            raise AnswerChanged("The run was started again after it had called your tools.")
        self._said = [said for said in self._said if said[0] <= keep]
        self._speaking = self._said[-1][1] if self._said else ""
        self._matched = sum(len(text) for _, _, text in self._said)
        if self._matched == len(self._sent):
            self._matched = None

    def envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.run.id.hex}",
            "object": kind,
            "created": int(self.run.created_at.timestamp()),
            "model": self.model,
        }

    def metadata(self, last: Event) -> dict[str, str]:
        """`answered_by` is the run in whose answer this one's messages were heard."""
        if self.run.session_id is None:
            return {}
        heard = (last.data.get("metadata") or {}).get("answered_by")
        ids = {"session_id": self.run.thread_id, "run_id": str(self.run.id)}
        return {**ids, "answered_by": heard} if heard else ids

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self.envelope("chat.completion.chunk"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        return {**self.envelope("chat.completion.chunk"), "choices": [], "usage": usage}

    def delta(self, event: Event) -> dict[str, Any] | None:
        """What an event adds to the answer."""
        data = event.data
        match event.type:
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START" if step_of(data):
                self._of_steps.add(data["messageId"])
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" if data["messageId"] in self._of_steps:
                return None
            case "TEXT_MESSAGE_CONTENT":
                text = self._text(data["messageId"], data["delta"])
                self._said.append((event.seq, data["messageId"], text))
                unsent = self._unsent(text)
                return {"content": unsent} if unsent else None
            case "REASONING_MESSAGE_CONTENT":
                return {"reasoning_content": data["delta"]}
            case "CUSTOM" if data["name"] == "refusal":
                return {"refusal": data["value"]}
            case "TOOL_CALL_START" if self.bare or data["toolCallName"] in self.client_tools:
                self._first_call_seq = self._first_call_seq or event.seq
                index = self._calls[data["toolCallId"]] = len(self._calls)
                function = {"name": data["toolCallName"], "arguments": ""}
                call = {"index": index, "id": data["toolCallId"], "type": "function", "function": function}
                return {"tool_calls": [call]}
            case "TOOL_CALL_ARGS" if data["toolCallId"] in self._calls:
                call = {"index": self._calls[data["toolCallId"]], "function": {"arguments": data["delta"]}}
                return {"tool_calls": [call]}
        return None


def usage_of(event: Event) -> dict[str, Any]:
    counted = event.data["usage"][0]
    usage: dict[str, Any] = {
        "prompt_tokens": counted["inputTokens"],
        "completion_tokens": counted["outputTokens"],
        "total_tokens": counted["totalTokens"],
    }
    if counted.get("cachedInputTokens"):
        usage["prompt_tokens_details"] = {"cached_tokens": counted["cachedInputTokens"]}
    if counted.get("reasoningTokens"):
        usage["completion_tokens_details"] = {"reasoning_tokens": counted["reasoningTokens"]}
    return usage


async def chunks(form: ChatFormat, events: AsyncGenerator[Event | None, None]) -> AsyncGenerator[bytes, None]:
    """The SSE frames of a streamed answer. A failure is an `error` event, never a clean finish."""
    yield _frame(form.chunk({"role": "assistant", "content": ""}))
    try:
        async with aclosing(events):
            async for event in events:
                for frame in _frames(form, event):
                    yield frame
                if event is not None and event.is_terminal:
                    return
        error = run_gone()
    except ApplicationError as failure:
        error = failure
    yield sse.frame(orjson.dumps(error.body(current_request().request_id)), event="error")


def run_gone() -> ApplicationError:
    return NotFound("The run was deleted.", code="run_deleted")


def _frames(form: ChatFormat, event: Event | None) -> Iterable[bytes]:
    if event is None:
        yield sse.HEARTBEAT
    elif event.is_terminal:
        yield from _ending(form, event)
    elif (keep := restart_of(event)) is not None:
        form.restart(keep)
    elif (delta := form.delta(event)) is not None:
        yield _frame(form.chunk(delta))


def _ending(form: ChatFormat, event: Event) -> Iterable[bytes]:
    if event.type == "RUN_ERROR":
        raise error_of(event)
    last = form.chunk({}, finish_reason=event.data["result"]["finishReason"])
    if metadata := form.metadata(event):
        last["metadata"] = metadata
    yield _frame(last)
    if form.include_usage:
        yield _frame(form.usage_chunk(usage_of(event)))
    yield sse.frame(b"[DONE]")


def _frame(chunk: dict[str, Any]) -> bytes:
    return sse.frame(orjson.dumps(chunk))


async def completion(form: ChatFormat, events: AsyncGenerator[Event | None, None]) -> dict[str, Any]:
    """The whole answer. Raises the run's error."""
    async with aclosing(events):
        return completed(form, [event async for event in events if event is not None])


def completed(form: ChatFormat, events: Iterable[Event]) -> dict[str, Any]:
    """The answer that all events of a run add up to. Raises the run's error."""
    told = still_valid(events)
    last = told[-1] if told else None
    if last is None or not last.is_terminal:
        raise run_gone()
    if last.type == "RUN_ERROR":
        raise error_of(last)
    deltas = [delta for event in told if (delta := form.delta(event)) is not None]
    choice = {
        "index": 0,
        "message": merged(deltas),
        "logprobs": None,
        "finish_reason": last.data["result"]["finishReason"],
    }
    answer = {**form.envelope("chat.completion"), "choices": [choice], "usage": usage_of(last)}
    metadata = form.metadata(last)
    return {**answer, "metadata": metadata} if metadata else answer


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
