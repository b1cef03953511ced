"""What a template is given for one run. It names models and tools by nothing: it gets them ready to use."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

import msgspec
import orjson

Message = dict[str, Any]
Heard = Callable[[], Awaitable[list[Message]]]


class Reply(msgspec.Struct, frozen=True):
    """One answer of the model; `usage` counts its tokens in OpenAI's shape, None when the provider told nothing."""

    message: Message
    finish_reason: str
    usage: dict[str, Any] | None = None


class Speech(Protocol):
    """A message that is told piece by piece."""

    async def say(self, text: str) -> None: ...

    async def end(self) -> None: ...


class Model(Protocol):
    """The agent's model. Its tokens go to the run's sink while it answers."""

    async def reply(
        self, messages: Sequence[Message], *, tools: Sequence[Message] | None = None, **params: Any
    ) -> Reply:
        """Raises ApplicationError when the provider fails for good."""

    async def tell_calls(self, calls: list[dict[str, Any]]) -> None:
        """Tell calls of tools that the template makes of its own accord, as a message of its own."""

    def speak(self) -> Speech:
        """Begin a message of the template's own words."""

    async def retell(self, message: Message, finish_reason: str) -> None:
        """Tell an answer of an earlier attempt once more; the provider is not asked."""

    async def takes_schemas(self) -> bool:
        """Are all models that may answer known to hold to a JSON Schema in `response_format`?"""


class Toolbox(Protocol):
    """The tools that the agent was granted, run on the server."""

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """OpenAI function tools."""

    async def call(self, tool_call: dict[str, Any]) -> Message:
        """The `role: tool` message that answers one tool call. A tool's error becomes its text; it raises nothing."""

    async def answer(self, tool_call: dict[str, Any], content: str, *, is_error: bool = False) -> Message:
        """The same for a call that is not made: its answer is known from an earlier attempt, or it is refused."""


@dataclass(frozen=True, slots=True)
class Published:
    """Code that a version of an agent pins. `packages` is the digest of what it imports (`sandbox.packages`), or ""."""

    language: str
    source: str = field(repr=False)
    packages: str = ""

    @property
    def digest(self) -> str:
        """Of all of it, SHA-256 in hex."""
        return sha256(orjson.dumps([self.language, self.source, self.packages])).hexdigest()


async def _nothing() -> None:
    return None


async def _nobody() -> list[Message]:
    return []


class Course:
    """How a run goes; a replay gives it the course of the recorded run."""

    def took(self, step: str, ms: int) -> int:
        """How long a step took, given what was measured."""
        return ms

    async def turn(self, told: str, step: str) -> None:
        """Returns when it is time to tell something of a step that runs beside others: its type, or its own name."""


@dataclass(frozen=True)
class AgentContext:
    """`config` is an instance of the template's Config. `messages` are the history and the new ones in OpenAI's shape,
    without the agent's `instructions`. `client_tools` are the caller's own: the model may call them, the caller runs
    them. `params` are the caller's (temperature, stop, response_format, …) and go before the config's. `compiled` lives
    as long as the agent version is in use and is shared by all its runs: nothing of a tenant, a run or a key belongs in
    it. `thread` is where the run's checkpoints are kept (`templates_app.checkpoints`), None when none are; a run that
    was lost goes on from the one that `resume` names. `heard` gives the messages that users sent since it was last
    asked; who asks must answer them. `metadata` are the caller's pairs of text. `attempt` counts from 1. `published`
    reads what the version pins.
    """

    config: Any
    instructions: str
    messages: list[Message]
    model: Model
    make_chat_model: Callable[[], Any]
    tools: Toolbox
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    tenant_id: UUID | None = None
    run_id: UUID | None = None
    session_id: UUID | None = None
    thread: str | None = None
    resume: str | None = None
    compiled: dict[str, Any] = field(default_factory=dict)
    heard: Heard = _nobody
    metadata: dict[str, str] = field(default_factory=dict)
    published: Callable[[], Awaitable[Published | None]] = _nothing
    attempt: int = 1
    course: Course = field(default_factory=Course)

    @property
    def chat_model(self) -> Any:
        """`model` as a LangChain chat model that is shared by all runs; the first use imports LangChain."""
        return self.make_chat_model()
