"""The run's sink: turns what models, tools and templates report into AG-UI events, and keeps what was said.

This is the one place where events are born. What follows a run reads them from its stream.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from core.ids import short_id
from core.validation import storable, storable_text
from llm.wire import Accumulator, ChatRequest, Delta, ToolCallDelta
from runs.events import RESERVED, custom, without_nones
from runs.exceptions import ReservedName
from runs.stream import RunStream
from runs.transcript import Transcript, tool_outcome
from templates_app.current_step import current_step
from templates_app.events import Answer, Checkpointed, Custom, Event, StepFailed, StepFinished, StepStarted
from toolsets.events import ToolResult

Message = dict[str, Any]
OF_TEMPLATE = {"source": "template"}  # metadata of what no model said
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class Reply:
    """One answer of a model, as it is said. A run may have several at once: each has its own message.

    `metadata` goes with the beginning of its text and of its calls.
    """

    def __init__(self, sink: "RunSink", *, metadata: dict[str, Any] | None = None) -> None:
        self._sink = sink
        self._stream = sink.stream
        self.step = current_step()
        self._of_step = {"step": self.step} if self.step else {}
        metadata = {**self._of_step, **(metadata or {})} or None
        self._metadata = metadata
        self._said = Accumulator()
        self._id = short_id()  # answers sort by it as they were opened: a replay gives them out in that order
        self._open: str | None = None  # what is open in the event grammar: "text", "reasoning" or nothing
        self._calls: dict[int, str] = {}
        self.ended = False
        self.given_up = False

    async def __call__(self, delta: Delta) -> None:
        self._said.add(delta)
        if delta.reasoning:
            self._enter("reasoning")
            self._stream.publish("REASONING_MESSAGE_CONTENT", messageId=self._reasoning_id, delta=delta.reasoning)
        if delta.text:
            self._enter("text")
            self._stream.publish("TEXT_MESSAGE_CONTENT", messageId=self._id, delta=delta.text)
        if delta.refusal:
            self._stream.publish("CUSTOM", **custom("refusal", delta.refusal), metadata=self._about)
        for fragment in delta.tool_calls or ():
            self._tool_call(fragment)
        if delta.finish_reason:
            self._end(delta.finish_reason)
        await self._stream.room()

    @property
    def _about(self) -> dict[str, str]:
        return {"messageId": self._id, **self._of_step}

    @property
    def _reasoning_id(self) -> str:
        return f"{self._id}-reasoning"

    def _enter(self, part: str | None) -> None:
        self._sink.hear()
        if self._open == part:
            return
        if self._open == "text":
            self._stream.publish("TEXT_MESSAGE_END", messageId=self._id)
        elif self._open == "reasoning":
            self._stream.publish("REASONING_MESSAGE_END", messageId=self._reasoning_id)
            self._stream.publish("REASONING_END", messageId=self._reasoning_id)
        self._open = part
        if part == "text":
            fields = without_nones(messageId=self._id, role="assistant", metadata=self._metadata)
            self._stream.publish("TEXT_MESSAGE_START", **fields)
        elif part == "reasoning":
            metadata = self._metadata
            self._stream.publish("REASONING_START", **without_nones(messageId=self._reasoning_id, metadata=metadata))
            fields = without_nones(messageId=self._reasoning_id, role="reasoning", metadata=self._metadata)
            self._stream.publish("REASONING_MESSAGE_START", **fields)

    def _tool_call(self, fragment: ToolCallDelta) -> None:
        self._enter(None)
        call_id = self._calls.get(fragment.index)
        if call_id is None:
            call_id = self._calls[fragment.index] = fragment.id or f"call_{uuid4().hex}"
            fields = {"toolCallId": call_id, "toolCallName": fragment.name or "", "parentMessageId": self._id}
            self._stream.publish("TOOL_CALL_START", **without_nones(**fields, metadata=self._metadata))
        if fragment.arguments:
            self._stream.publish("TOOL_CALL_ARGS", toolCallId=call_id, delta=fragment.arguments)

    def _end(self, finish_reason: str) -> None:
        self.close()
        self.ended = True
        said = self._said.completion()
        if not (said.text or said.reasoning or said.refusal or said.tool_calls):
            self._stream.publish("CUSTOM", **custom("empty_answer", finish_reason), metadata=self._about)
        self._sink.said({"id": self._id, **said.message()}, finish_reason, in_step=bool(self.step))

    def cut(self) -> str:
        """It failed, and the run goes on without it; its id."""
        self.close()
        self.ended = True
        return self._id

    def give_up(self) -> None:
        """Nothing more comes of it, whether it has ended or not."""
        self.given_up = True
        if not self.ended:
            self._sink.when_said()

    def close(self) -> None:
        """End what is open in the event grammar."""
        if self._open:
            self._enter(None)
        for call_id in self._calls.values():
            self._stream.publish("TOOL_CALL_END", toolCallId=call_id)
        self._calls = {}

    def text(self) -> str:
        return self._said.completion().text


class RunSink:
    """`messages` are the complete ones so far, in OpenAI's shape with the ids of their events, those `kept` of an
    earlier attempt included.

    `partial` is what a stop cut short. `when_said` is called when an answer of a model has ended, `when_told` when the
    template has told something.
    """

    def __init__(self, stream: RunStream, kept: Transcript | None = None) -> None:
        self.stream = stream
        self.messages: list[Message] = kept.messages if kept else []
        self._in_step = kept is not None and kept.ends_in_step
        self.first_token_ms: int | None = None
        self.finish_reason = ""
        self._started = time.monotonic()
        self._replies: list[Reply] = []
        self._steps: list[str] = []  # that are open
        self.when_said: Callable[[], None] = lambda: None
        self.when_told: Callable[[], None] = lambda: None

    def open_reply(self, request: ChatRequest) -> Reply:
        reply = Reply(self)
        self._replies.append(reply)
        return reply

    def open_words(self) -> Reply:
        reply = Reply(self, metadata=OF_TEMPLATE)
        self._replies.append(reply)
        return reply

    def hear(self) -> None:
        """Something was said: the first time counts as the run's first token."""
        if self.first_token_ms is None:
            self.first_token_ms = int((time.monotonic() - self._started) * 1000)

    def said(self, message: Message, finish_reason: str, *, in_step: bool) -> None:
        self.finish_reason, self._in_step = finish_reason, in_step
        if message.get("content") or message.get("tool_calls") or message.get("refusal"):
            self.messages.append(message)
        self.when_said()

    def pause(self, interrupted: dict[str, Any], started: dict[str, Any]) -> None:
        """The run waits for persons. Nothing is told while a model speaks: `when_said` says when it has ended."""
        if all(reply.ended or reply.given_up for reply in self._replies):
            for reply in self._replies:
                reply.close()
            self.stream.pause(interrupted, started, self._steps)

    async def heard(self, run_id: str, messages: list[Message]) -> None:
        """What the user said meanwhile, as the run that brought it."""
        self.messages += messages
        self.stream.publish("CUSTOM", **custom("heard", {"run_id": run_id, "messages": messages}))
        await self.stream.room()

    async def tool_result(self, result: ToolResult) -> None:
        id = short_id()
        answer = {"role": "tool", "tool_call_id": result.tool_call_id, "content": result.content}
        self.messages.append({"id": id, **answer, **tool_outcome(result.is_error)})
        self.stream.publish(
            "TOOL_CALL_RESULT",
            messageId=id,
            toolCallId=result.tool_call_id,
            content=result.content,
            role="tool",
            metadata=without_nones(ms=result.ms, error=True if result.is_error else None),
        )
        await self.stream.room()

    async def template_event(self, event: Event) -> None:
        """Raises ReservedName for an event that would pass for one of the platform's."""
        match event:
            case StepStarted():
                self._step_started(storable_text(event.name))
            case StepFinished():
                self._step_finished(event)
            case StepFailed():
                self._step_failed(event)
            case Custom():
                self._custom(event)
            case Checkpointed():
                self.stream.publish("CUSTOM", **custom("checkpoint", event.id))
            case Answer():
                await self._answer(event)
        self.when_told()
        await self.stream.room()

    def _step_started(self, name: str) -> None:
        self.stream.publish("STEP_STARTED", stepName=name)
        self._steps.append(name)

    def _step_finished(self, event: StepFinished) -> None:
        name = storable_text(event.name)
        metadata = {"ms": event.ms} if event.ms is not None else None
        self.stream.publish("STEP_FINISHED", **without_nones(stepName=name, metadata=metadata))
        if name in self._steps:
            self._steps.remove(name)

    def _step_failed(self, event: StepFailed) -> None:
        value = {"step": event.name, "attempt": event.attempt, "code": event.code, "message": event.message}
        cut = [reply.cut() for reply in self._replies if reply.step == event.name and not reply.ended]
        told = custom("step_failed", storable({**value, "again": event.again}))
        self.stream.publish("CUSTOM", **told, metadata={"cut": cut})
        self.when_said()

    def _custom(self, event: Custom) -> None:
        name = storable_text(event.name)
        if name in RESERVED:
            raise ReservedName(name)
        self.stream.publish("CUSTOM", name=name, value=storable(event.value))

    async def _answer(self, answer: Answer) -> None:
        """A template may answer with text that no model said: it becomes a message of its own."""
        content = _text(answer.message.get("content"))
        finish_reason = answer.finish_reason if answer.finish_reason in FINISH_REASONS else "stop"
        last = self.messages[-1] if self.messages else {}
        if content and (self._in_step or last.get("role") != "assistant" or last.get("content") != content):
            await Reply(self, metadata=OF_TEMPLATE)(Delta(text=content, finish_reason=finish_reason))
        self.finish_reason = finish_reason

    def partial(self) -> Message | None:
        """The text of the answers that a failure or a cancel cut short, without half-made tool calls."""
        text = "\n\n".join(reply.text() for reply in self._replies if not reply.ended and reply.text())
        return {"role": "assistant", "content": text} if text else None

    def close(self) -> None:
        """End what is open in the event grammar, so that the run's terminal event may follow."""
        self.stream.go_on()
        for reply in self._replies:
            if not reply.ended:
                reply.close()


def _text(content: Any) -> str:
    """An answer's content as text, of a list its text parts."""
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return storable_text(str(content or ""))
