"""The run's sink: turns what models, tools and templates report into AG-UI events, and keeps what was said.

This is the one place where events are born. What follows a run reads them from its stream.
"""

import time
from typing import Any
from uuid import uuid4

from llm.wire import Accumulator, Delta, ToolCallDelta
from runs.events import without_nones
from runs.stream import RunStream
from templates_app.events import Answer, Custom, StepFinished, StepStarted
from toolsets.events import ToolResult

Item = Delta | ToolResult | StepStarted | StepFinished | Custom | Answer


class RunSink:
    """`messages` are the complete ones so far, in OpenAI's shape; `partial()` is the one being said."""

    def __init__(self, stream: RunStream) -> None:
        self._stream = stream
        self._started = time.monotonic()
        self._reply: Accumulator | None = None
        self._message_id = ""
        self._open: str | None = None  # what is open in the event grammar: "text", "reasoning" or None
        self._calls: dict[int, str] = {}
        self._counted: list[Accumulator] = []
        self.messages: list[dict[str, Any]] = []
        self.first_token_ms: int | None = None
        self.finish_reason = ""

    async def __call__(self, item: Item) -> None:
        match item:
            case Delta():
                self._delta(item)
            case ToolResult():
                self._tool_result(item)
            case StepStarted():
                self._stream.publish("STEP_STARTED", stepName=item.name)
            case StepFinished():
                self._stream.publish("STEP_FINISHED", stepName=item.name)
            case Custom():
                self._stream.publish("CUSTOM", name=item.name, value=item.value)
            case Answer():
                self._answer(item)

    def _delta(self, delta: Delta) -> None:
        says = bool(delta.text or delta.reasoning or delta.refusal or delta.tool_calls)
        if self._reply is None or (says and self.finish_reason):
            self._reply = self._begin_reply()
        self._reply.add(delta)
        if says and self.first_token_ms is None:
            self.first_token_ms = int((time.monotonic() - self._started) * 1000)
        self._publish_parts(delta)
        if delta.finish_reason:
            self._end_reply(self._reply, delta.finish_reason)

    def _publish_parts(self, delta: Delta) -> None:
        if delta.reasoning:
            self._enter("reasoning")
            self._stream.publish("REASONING_MESSAGE_CONTENT", messageId=self._reasoning_id, delta=delta.reasoning)
        if delta.text:
            self._enter("text")
            self._stream.publish("TEXT_MESSAGE_CONTENT", messageId=self._message_id, delta=delta.text)
        if delta.refusal:
            self._stream.publish("CUSTOM", name="refusal", value=delta.refusal)
        for fragment in delta.tool_calls or ():
            self._tool_call(fragment)

    def _begin_reply(self) -> Accumulator:
        reply = Accumulator()
        self._counted.append(reply)
        self._message_id = str(uuid4())
        self._calls = {}
        self.finish_reason = ""
        return reply

    @property
    def _reasoning_id(self) -> str:
        return f"{self._message_id}-reasoning"

    def _enter(self, part: str | None) -> None:
        if self._open == part:
            return
        if self._open == "text":
            self._stream.publish("TEXT_MESSAGE_END", messageId=self._message_id)
        elif self._open == "reasoning":
            self._stream.publish("REASONING_MESSAGE_END", messageId=self._reasoning_id)
            self._stream.publish("REASONING_END", messageId=self._reasoning_id)
        self._open = part
        if part == "text":
            self._stream.publish("TEXT_MESSAGE_START", messageId=self._message_id, role="assistant")
        elif part == "reasoning":
            self._stream.publish("REASONING_START", messageId=self._reasoning_id)
            self._stream.publish("REASONING_MESSAGE_START", messageId=self._reasoning_id, role="reasoning")

    def _tool_call(self, fragment: ToolCallDelta) -> None:
        self._enter(None)
        call_id = self._calls.get(fragment.index)
        if call_id is None:
            call_id = self._calls[fragment.index] = fragment.id or f"call_{uuid4().hex}"
            fields = {"toolCallId": call_id, "toolCallName": fragment.name or "", "parentMessageId": self._message_id}
            self._stream.publish("TOOL_CALL_START", **fields)
        if fragment.arguments:
            self._stream.publish("TOOL_CALL_ARGS", toolCallId=call_id, delta=fragment.arguments)

    def _end_reply(self, reply: Accumulator, finish_reason: str) -> None:
        self.close()
        self.finish_reason = finish_reason
        message = reply.completion().message()
        if message.get("content") or message.get("tool_calls") or message.get("refusal"):
            self.messages.append(message)

    def close(self) -> None:
        """End what is open in the event grammar, so that the run's terminal event may follow."""
        self._enter(None)
        for call_id in self._calls.values():
            self._stream.publish("TOOL_CALL_END", toolCallId=call_id)
        self._calls = {}

    def _tool_result(self, result: ToolResult) -> None:
        message = {"role": "tool", "tool_call_id": result.tool_call_id, "content": result.content}
        self.messages.append(message)
        metadata = without_nones(ms=result.ms, error=True if result.is_error else None)
        self._stream.publish(
            "TOOL_CALL_RESULT",
            messageId=str(uuid4()),
            toolCallId=result.tool_call_id,
            content=result.content,
            role="tool",
            metadata=metadata,
        )

    def _answer(self, answer: Answer) -> None:
        """A template may answer with text that no model said: it becomes a message of its own."""
        content = answer.message.get("content") or ""
        last = self.messages[-1] if self.messages else {}
        if content and (last.get("role") != "assistant" or last.get("content") != content):
            self._reply = self._begin_reply()
            self._delta(Delta(text=content, finish_reason=answer.finish_reason))
        self.finish_reason = answer.finish_reason

    def partial(self) -> dict[str, Any] | None:
        """The message that a failure or a cancel cut short: its text, without half-made tool calls."""
        if self._reply is None or self.finish_reason:
            return None
        text = self._reply.completion().text
        return {"role": "assistant", "content": text} if text else None

    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of all model calls, as the providers counted them."""
        usages = [reply.completion().usage for reply in self._counted]
        found = [usage for usage in usages if usage is not None]
        return sum(u.prompt_tokens for u in found), sum(u.completion_tokens for u in found)
