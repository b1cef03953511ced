"""An agent runs for another one: within its run, and unheard by those who follow that."""

from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import Field

from agents.executable import cache_policy, executable_of
from agents.models import Agent, AgentVersion
from agents.nesting import AgentRun, agent_run, current_agent_run
from core.aio import detached, in_db_thread
from core.errors import ApplicationError
from core.tenant import tenant_context
from llm.binding import Sink
from llm.calls import CallContext, call_context, calling
from llm.selectors.providers import model_resolve
from llm.targets import Target
from llm.wire import Accumulator, ChatRequest
from templates_app.events import Answer
from tenants.principal import system_principal
from toolsets.base import ToolArguments, ToolCallContext
from toolsets.events import ToolResult
from toolsets.exceptions import ToolError
from toolsets.selectors import granted_toolsets
from toolsets.toolbox import GrantedToolset, Toolbox


class Ask(ToolArguments):
    message: str = Field(
        min_length=1, max_length=100_000, description="The whole question, with all that is needed to answer it."
    )


class Limits(NamedTuple):
    depth: int
    calls: int


class Called(NamedTuple):
    """What is read beforehand: no connection is held while the agent answers."""

    version: AgentVersion
    target: Target
    toolsets: list[GrantedToolset]


class Quiet:
    """Hears the called agent. Its answers and tools are no events of the run."""

    def __init__(self) -> None:
        self._replies: list[Accumulator] = []

    def open_reply(self, request: ChatRequest) -> Sink:
        reply = Accumulator()
        self._replies.append(reply)

        async def hear(delta: Any) -> None:
            reply.add(delta)

        return hear

    def open_words(self) -> Sink:
        return self.open_reply(ChatRequest("", [], {}))

    async def tool_result(self, result: ToolResult) -> None:
        """The called agent is shown it, and the ledger keeps it."""

    @property
    def text(self) -> str:
        """The last that was said."""
        return next((text for reply in reversed(self._replies) if (text := reply.completion().text)), "")


@dataclass(frozen=True, slots=True)
class AskedAgent:
    slug: str
    limits: Limits

    async def ask(self, arguments: Ask, context: ToolCallContext) -> str:
        run = self._asked(context)
        try:
            called = await in_db_thread(_read, context.tenant_id, self.slug, context.person)
            # A task with nothing of its caller's context: no graph takes another one for a part of itself.
            work = _answer(called, run, call_context(), context, arguments.message)
            return await detached(work, name=f"ask-{self.slug}")
        except ApplicationError as error:
            raise ToolError(f"The agent '{self.slug}' could not answer: {error.message}") from error

    def _asked(self, context: ToolCallContext) -> AgentRun:
        """Raises ToolError where there is no run, and where it may not ask this agent."""
        run = current_agent_run()
        if run is None:
            raise ToolError("Agents ask each other only in a run: ask an agent that has this toolset.")
        chain = " → ".join((*run.chain, self.slug))
        if self.slug in run.chain:
            raise ToolError(f"The agents would ask each other in a circle: {chain}. Answer without '{self.slug}'.")
        depth = min(self.limits.depth, run.depth)
        if len(run.chain) > depth:
            message = f"Agents are asked {depth} deep at most (max_depth of the toolset), and this is deeper: {chain}."
            raise ToolError(message)
        if len(run.asks) >= self.limits.calls:
            message = f"The agents of this run have asked others {len(run.asks)} times: max_calls of the toolset."
            raise ToolError(message)
        return run.asks_now(self.slug, depth, context.call)


def _read(tenant_id: UUID, slug: str, person: str) -> Called:
    """Raises ToolError for an agent that does not answer, NotFound or Conflict for its model."""
    agent = Agent.objects.select_related("version").filter(tenant_id=tenant_id, slug=slug).first()
    if agent is None or agent.version is None:
        raise ToolError(f"There is no agent '{slug}'.")
    if agent.status != Agent.Status.ACTIVE:
        raise ToolError(f"The agent '{slug}' is not active: its status is {agent.status}.")
    actor = system_principal(tenant_id, "")  # the run was authorised when it began
    target = model_resolve(actor=actor, name=agent.version.model)
    toolsets = granted_toolsets(actor=actor, slugs=agent.version.toolsets, person=person, agent=slug)
    return Called(agent.version, target, toolsets)


async def _answer(called: Called, run: AgentRun, calls: CallContext, context: ToolCallContext, message: str) -> str:
    """Raises ToolError when the agent says nothing, and ApplicationError."""
    heard = Quiet()
    with tenant_context(context.tenant_id), calling(_calls_of(called.version, run, calls)), agent_run(run):
        events = (await executable_of(called.version)).run(
            report=heard,
            messages=[{"role": "user", "content": message}],
            params={},
            client_tools=[],
            target=called.target,
            toolsets=called.toolsets,
            run_id=context.run_id,
            session_id=context.session_id,
            person=context.person,
            checkpointed=False,  # the run's thread is its own agent's
            make_toolbox=partial(Toolbox, ledger=run.ledger),
        )
        async with aclosing(events) as told:
            answer = [event async for event in told if isinstance(event, Answer)][-1]
    text = _text(answer) or heard.text
    if not text:
        raise ToolError(f"The agent '{run.chain[-1]}' answered nothing: it ended with {answer.finish_reason}.")
    return text


def _calls_of(version: AgentVersion, run: AgentRun, calls: CallContext) -> CallContext:
    """Paid for by the run; what may be shared is the called agent's own wish."""
    metadata = {**calls.metadata, "agent": run.chain[-1]}
    return replace(calls, metadata=metadata, cache=cache_policy(version), join=version.join_calls)


def _text(answer: Answer) -> str:
    content = answer.message.get("content") or answer.message.get("refusal") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content)
