"""What a template yields while it runs. Tokens and tool calls are no part of it: they reach the run's sink directly."""

from typing import Any

import msgspec


class StepStarted(msgspec.Struct, frozen=True):
    name: str


class StepFinished(msgspec.Struct, frozen=True):
    """`ms`: how long it took, where the template measures that."""

    name: str
    ms: int | None = None


class StepFailed(msgspec.Struct, frozen=True):
    """An attempt at a step has failed, and the run goes on. What its model was saying is cut, and no message.

    `again`: it is tried once more.
    """

    name: str
    attempt: int
    code: str
    message: str
    again: bool


# CUSTOM events of the platform's own, as `runs.events` has them: it acts on them, and so do clients.
RESERVED = frozenset(
    [
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
)


class Custom(msgspec.Struct, frozen=True):
    """Something of the template's own for the client, passed on as an AG-UI CUSTOM event; `value` is JSON.

    A name of the platform's own events (RESERVED) fails the run.
    """

    name: str
    value: Any


class Checkpointed(msgspec.Struct, frozen=True):
    """All that was told before belongs to the checkpoint `id`, which is being stored: a run that resumes from it tells
    what came after once more.
    """

    id: str


class Answer(msgspec.Struct, frozen=True):
    """The result, exactly one and last: an assistant message in OpenAI's shape, with tool calls left to the caller."""

    message: dict[str, Any]
    finish_reason: str


Event = StepStarted | StepFinished | StepFailed | Custom | Checkpointed | Answer
