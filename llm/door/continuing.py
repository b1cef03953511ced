"""Going on from a partial answer at another provider."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from llm.wire import ChatRequest, Delta

ASK = (
    "Your last message broke off in the middle. Go on exactly where it ended, with the very next character: "
    "repeat nothing of it, and say nothing about the interruption."
)
PREFIXED = frozenset({"mistral"})  # kinds whose models go on from a last message of theirs that says `prefix`


@dataclass(slots=True)
class Partial:
    """What the caller has been told so far."""

    began: bool = False
    _text: list[str] = field(default_factory=list)
    _text_only: bool = True

    def add(self, delta: Delta) -> None:
        self.began = True
        if delta.text:
            self._text.append(delta.text)
        if delta.tool_calls or delta.refusal:
            self._text_only = False

    def can_go_on(self, request: ChatRequest) -> bool:
        """Not where a tool call has begun, nor in the middle of a document: its other half would be another one."""
        form = request.params.get("response_format") or {}
        return self._text_only and form.get("type", "text") == "text"

    def continued(self, request: ChatRequest, kind: str) -> ChatRequest:
        """The request for the rest, in a way that the models of `kind` understand."""
        text = "".join(self._text)
        if not text:
            return request
        said: dict[str, Any] = {"role": "assistant", "content": text}
        rest = [{**said, "prefix": True}] if kind in PREFIXED else [said, {"role": "user", "content": ASK}]
        return msgspec.structs.replace(request, messages=[*request.messages, *rest])
