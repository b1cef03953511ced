"""What the steps of a run have done, stored before anybody is told: no other attempt of the run does it again."""

from typing import Any

import msgspec

from templates_app.checkpoints import journal_read, journal_write
from templates_app.context import AgentContext, Message

Result = dict[str, Any]


class Round(msgspec.Struct):
    """One answer of the model, and the contents that answered its calls so far, by their places."""

    answer: Message
    finish_reason: str
    results: dict[str, str] = {}

    @property
    def calls(self) -> list[dict[str, Any]]:
        return self.answer.get("tool_calls") or []

    @property
    def open_calls(self) -> list[tuple[str, dict[str, Any]]]:
        return [(str(place), call) for place, call in enumerate(self.calls) if str(place) not in self.results]

    @property
    def messages(self) -> list[Message]:
        told = [(call, self.results.get(str(place))) for place, call in enumerate(self.calls)]
        answers = [
            {"role": "tool", "tool_call_id": call["id"], "content": content}
            for call, content in told
            if content is not None
        ]
        return [self.answer, *answers]


class Entry(msgspec.Struct):
    """Of one step. `attempt` is the one that it is at; `result` is there once it has ended."""

    rounds: list[Round] = []
    attempt: int = 1
    result: Result | None = None


class Journal:
    """Of one run; of one without a thread nothing is stored."""

    def __init__(self, context: AgentContext, entries: dict[str, Entry]) -> None:
        self._thread = context.thread
        self._attempt = context.attempt
        self._entries = entries

    def entry(self, step: str) -> Entry:
        return self._entries.setdefault(step, Entry())

    async def keep(self, step: str) -> None:
        """Returns once what the step has done is stored. Raises Unavailable."""
        if self._thread is not None:
            await journal_write(self._thread, self._attempt, step, msgspec.json.encode(self.entry(step)))


async def journal_of(context: AgentContext) -> Journal:
    """Raises Unavailable."""
    stored = await journal_read(context.thread) if context.thread and context.attempt > 1 else {}
    return Journal(context, {step: msgspec.json.decode(said, type=Entry) for step, said in stored.items()})
