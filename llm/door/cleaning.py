"""What a provider says, made fit to be stored: no more than is accepted, in characters that a database takes."""

import hashlib

from django.conf import settings

from core.validation import storable, storable_text
from llm.exceptions import BadAnswer
from llm.wire import Completion, Delta, ToolCall, ToolCallDelta

MAX_CALL_ID = 200  # characters


class Size:
    """How much of an answer there is; a provider without an end must not fill the memory."""

    def __init__(self) -> None:
        self._characters = 0
        self._deltas = 0

    def add(self, delta: Delta) -> None:
        """Raises BadAnswer beyond LLM_MAX_ANSWER characters or LLM_MAX_DELTAS pieces."""
        self._deltas += 1 + len(delta.tool_calls or ())
        self._characters += len(delta.text or "") + len(delta.reasoning or "") + len(delta.refusal or "")
        for call in delta.tool_calls or ():
            self._characters += len(call.arguments)
        if self._characters > settings.LLM_MAX_ANSWER or self._deltas > settings.LLM_MAX_DELTAS:
            raise BadAnswer("The model's answer is longer than is accepted.", retryable=False)


def clean(delta: Delta) -> Delta:
    """An id that no column takes is shortened."""
    for name in ("text", "reasoning", "refusal"):
        said = getattr(delta, name)
        if said:
            setattr(delta, name, storable_text(said))
    for call in delta.tool_calls or ():
        _clean_call(call)
    return delta


def clean_completion(answer: Completion) -> Completion:
    answer.text, answer.reasoning = storable_text(answer.text), storable_text(answer.reasoning)
    answer.refusal = storable_text(answer.refusal)
    for call in answer.tool_calls:
        _clean_call(call)
    return answer


def _clean_call(call: ToolCall | ToolCallDelta) -> None:
    call.arguments = storable_text(call.arguments)
    call.name = storable_text(call.name) if call.name else call.name
    if call.id:
        call.id = _short_id(storable_text(call.id))
    if call.extra_content:
        call.extra_content = storable(call.extra_content)


def _short_id(id: str) -> str:
    """The same for every fragment of a call."""
    return id if len(id) <= MAX_CALL_ID else f"call_{hashlib.sha256(id.encode()).hexdigest()}"
