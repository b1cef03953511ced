"""The OpenAI chat-completions wire: what is asked, and the deltas that come back whatever the provider bends.

A stream of `Delta`s that ends normally has had exactly one `finish_reason`; every tool-call fragment has the index of
its call, and a call's first fragment has its id and name.
"""

from typing import Any

import msgspec


class Usage(msgspec.Struct, omit_defaults=True):
    """Tokens of one call. A provider may report it several times in a stream: the last one counts, never the sum."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None


class ToolCallDelta(msgspec.Struct, omit_defaults=True):
    """A fragment of a tool call. `extra_content` is the provider's own and goes back to it with the call."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    extra_content: dict[str, Any] | None = None


class Delta(msgspec.Struct, omit_defaults=True):
    text: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    refusal: str | None = None
    model: str | None = None  # what the provider calls the model that answered; with the finish reason

    @property
    def says(self) -> bool:
        """More than token counts."""
        return bool(self.text or self.reasoning or self.tool_calls or self.finish_reason or self.refusal)


PART_MEDIA = {  # what a part of a message is, by its type
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio",
    "audio": "audio",
    "file": "documents",
    "input_file": "documents",
    "document": "documents",
}


class ChatRequest(msgspec.Struct):
    """`messages` and `params` (tools, stop, …) in OpenAI's shape; `model` is the provider's own name for it."""

    model: str
    messages: list[dict[str, Any]]
    params: dict[str, Any] = msgspec.field(default_factory=dict)


class ToolCall(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | None = None

    def as_message_part(self) -> dict[str, Any]:
        part: dict[str, Any] = {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments or "{}"},
        }
        if self.extra_content:
            part["extra_content"] = self.extra_content
        return part


class Completion(msgspec.Struct, omit_defaults=True):
    """A whole answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    finish_reason: str = "stop"
    usage: Usage | None = None
    model: str | None = None

    def message(self) -> dict[str, Any]:
        """The assistant message to show and to send back in the next request."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or (None if self.tool_calls else "")}
        if self.refusal:
            message["refusal"] = self.refusal
        if self.tool_calls:
            message["tool_calls"] = [call.as_message_part() for call in self.tool_calls]
        return message

    def delta(self) -> Delta:
        """The same, as the one piece of a stream."""
        calls = [
            ToolCallDelta(place, call.id, call.name, call.arguments, call.extra_content)
            for place, call in enumerate(self.tool_calls)
        ]
        return Delta(
            text=self.text or None,
            reasoning=self.reasoning or None,
            refusal=self.refusal or None,
            tool_calls=calls or None,
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
        )


class Accumulator:
    """Merges the deltas of one answer."""

    __slots__ = ("_calls", "_finish", "_model", "_reasoning", "_refusal", "_text", "_usage")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._model: str | None = None

    def add(self, delta: Delta) -> None:
        if delta.text:
            self._text.append(delta.text)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        for fragment in delta.tool_calls or ():
            self._add_call(fragment)
        self._finish = delta.finish_reason or self._finish
        self._usage = delta.usage or self._usage
        self._model = delta.model or self._model

    def _add_call(self, fragment: ToolCallDelta) -> None:
        held = self._calls.get(fragment.index)
        if held is None:
            held = self._calls[fragment.index] = (ToolCall(fragment.id or "", fragment.name or "", ""), [])
        call, arguments = held
        call.id = call.id or fragment.id or ""
        call.name = call.name or fragment.name or ""
        call.extra_content = fragment.extra_content or call.extra_content
        arguments.append(fragment.arguments)

    def completion(self) -> Completion:
        """What has been received so far; complete once a delta had a finish reason."""
        calls = [
            msgspec.structs.replace(call, arguments="".join(parts)) for _, (call, parts) in sorted(self._calls.items())
        ]
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            tool_calls=calls,
            finish_reason=self._finish or "stop",
            usage=self._usage,
            model=self._model,
        )
