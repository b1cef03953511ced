"""Runs an agent version as the runner does: its own task, one sink, the scripted model behind the real gateway."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from agents.executable import Executable, executable_for
from agents.models import Agent
from core.ids import uuid7
from llm.binding import Sink
from llm.selectors.providers import model_resolve
from llm.wire import ChatRequest, Delta
from templates_app.events import Answer, Event
from tests.conftest import Actor
from toolsets.events import ToolResult
from toolsets.selectors import granted_toolsets


def script(*steps: dict[str, Any]) -> str:
    return f"#script {json.dumps(steps)}"


@dataclass
class Played:
    events: list[Event] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)

    @property
    def answer(self) -> Answer:
        last = self.events[-1]
        assert isinstance(last, Answer)
        return last

    @property
    def text(self) -> str:
        return "".join(delta.text or "" for delta in self.deltas)

    def open_reply(self, _: ChatRequest) -> Sink:
        return self._delta

    def open_words(self) -> Sink:
        return self._delta

    async def _delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    async def tool_result(self, result: ToolResult) -> None:
        self.results.append(result)


@dataclass(frozen=True)
class Ready:
    """What a turn reads from the database before it runs."""

    executable: Executable
    target: Any
    toolsets: list[Any]

    async def play(
        self,
        said: str,
        *,
        client_tools: Any = (),
        run_id: UUID | None = None,
        checkpointed: bool = False,
        resume: str | None = None,
        played: Played | None = None,
        **params: Any,
    ) -> Played:
        played = played or Played()
        events = self.executable.run(
            report=played,
            messages=[{"role": "user", "content": said}],
            params=params,
            client_tools=list(client_tools),
            target=self.target,
            toolsets=self.toolsets,
            run_id=run_id or uuid7(),
            checkpointed=checkpointed,
            resume=resume,
        )
        async for event in events:
            played.events.append(event)
        return played


def ready(actor: Actor, agent: Agent) -> Ready:
    version = agent.version
    assert version is not None
    target = model_resolve(actor=actor.principal, name=version.model)
    toolsets = granted_toolsets(actor=actor.principal, slugs=version.toolsets)
    return Ready(executable_for(version), target, toolsets)
