"""LangGraph graphs as templates. LangGraph itself is imported by the first run, not by discovery."""

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from contextvars import Context
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from core.errors import ApplicationError
from templates_app.base import AgentTemplate
from templates_app.checkpoints import run_saver
from templates_app.context import AgentContext
from templates_app.events import Answer, Checkpointed, Custom, Event, StepFinished, StepStarted

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.graph import StateGraph
    from langgraph.graph.state import CompiledStateGraph


class LangGraphTemplate(AgentTemplate):
    """A template that is a graph; its author writes `graph` and, for a state other than messages, `state` and `answer`.

    Each node is told as a step; what a node writes with `get_stream_writer()` is told as a Custom event. Tokens reach
    the client from the model itself, so a graph never needs `stream_mode="messages"`. A run with a thread keeps
    checkpoints in the platform's tables; a checkpointer that the author compiled in is never used, since it would hold
    the states of all tenants.
    """

    framework = "langgraph"
    capabilities: ClassVar[frozenset[str]] = frozenset({"tools", "history", "steps"})
    recursion_limit: ClassVar[int] = 50
    nodes_are_steps: ClassVar[bool] = True  # else the nodes `tell` of steps

    @abstractmethod
    def graph(
        self, config: Any, model: "BaseChatModel", tools: Sequence["BaseTool"]
    ) -> "StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]":
        """The graph, compiled or not: built once, shared by all runs. `model` and `tools` find their run themselves."""

    def state(self, context: AgentContext) -> dict[str, Any]:
        """The state to begin with: by default the instructions and all messages."""
        from langchain_core.messages import convert_to_messages

        from templates_app.chat import with_instructions

        return {"messages": convert_to_messages(with_instructions(context.instructions, context.messages))}

    def answer(self, state: dict[str, Any]) -> Answer:
        """The answer in the final state: by default its last AI message."""
        from templates_app.langchain import last_ai_message

        return last_ai_message(state.get("messages") or [])

    async def runtime(self, context: AgentContext) -> Any:
        """What nodes find as `get_runtime().context`."""
        return context

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        graph, begin, where = await self._prepared(context)
        from templates_app.langchain import use_toolbox

        options = {"recursion_limit": self.recursion_limit, "callbacks": [], "configurable": where}
        tell: dict[str, Callable[[Any], Event | None]] = {"custom": _custom, "checkpoints": _checkpointed}
        if self.nodes_are_steps:
            tell["tasks"] = _Steps().event
        # Checkpoints are stored while the next node runs, which LangGraph calls durability "async".
        runtime = await self.runtime(context)
        stream = graph.astream(begin, options, context=runtime, stream_mode=["values", *tell])
        state: dict[str, Any] = {}
        with use_toolbox(context.tools):
            async with aclosing(_bounded(stream, self.recursion_limit)) as told:
                async for mode, value in told:
                    if mode == "values":
                        state = value
                    elif event := tell[mode](value):
                        yield event
                        if isinstance(value, _Telling):
                            value.told.set()
        yield self.answer(state)

    async def _prepared(self, context: AgentContext) -> tuple[Any, dict[str, Any] | None, dict[str, Any]]:
        """The run's own graph, the state to begin with (None: the checkpoint's) and what names the checkpoint.

        The checkpoint is named, so that LangGraph runs every node after it again, those too that had finished beside
        others: their events went with what the run's log lost.
        """
        graph = copy(await self._compiled(context))
        graph.checkpointer = None
        if context.thread is None:
            return graph, self.state(context), {}
        graph.checkpointer = await run_saver()
        if context.resume is None:
            return graph, self.state(context), {"thread_id": context.thread}
        return graph, None, {"thread_id": context.thread, "checkpoint_id": context.resume}

    async def _compiled(self, context: AgentContext) -> Any:
        """Built in a thread, since the first build imports LangGraph, and once however many runs begin together."""
        pending = context.compiled.get("graph")
        if pending is None:
            build = asyncio.get_running_loop().run_in_executor(
                None, Context().run, _build, self, context.config, context.make_chat_model, context.tools.definitions
            )
            pending = context.compiled["graph"] = asyncio.ensure_future(build)
        try:
            return await asyncio.shield(pending)
        except Exception:
            if context.compiled.get("graph") is pending:
                del context.compiled["graph"]
            raise


def _build(
    template: LangGraphTemplate, config: Any, make_model: Callable[[], Any], definitions: list[dict[str, Any]]
) -> Any:
    """Runs in an empty context, so that a graph cannot capture a tenant, a run or a sink."""
    from langgraph.graph import StateGraph

    from templates_app.langchain import RunTool

    graph = template.graph(config, make_model(), [RunTool.of(definition) for definition in definitions])
    return graph.compile() if isinstance(graph, StateGraph) else graph


async def _bounded(stream: AsyncGenerator[Any], limit: int) -> AsyncGenerator[Any]:
    from langgraph.errors import GraphRecursionError

    async with aclosing(stream):
        try:
            async for item in stream:
                yield item
        except GraphRecursionError:
            raise ApplicationError(f"The agent did not finish within {limit} steps.", code="step_limit") from None


class _Telling:
    def __init__(self, event: Event) -> None:
        self.event = event
        self.told = asyncio.Event()


async def tell(event: Event) -> None:
    """Tells an event from within a node. Returns once it is told: what the node's model says next comes after it."""
    from langgraph.config import get_stream_writer

    telling = _Telling(event)
    get_stream_writer()(telling)
    await telling.told.wait()


def _custom(value: Any) -> Event:
    if isinstance(value, _Telling):
        return value.event
    named = isinstance(value, dict) and value.keys() == {"name", "value"} and isinstance(value["name"], str)
    return Custom(value["name"], value["value"]) if named else Custom("custom", value)


def _checkpointed(value: Any) -> Checkpointed:
    return Checkpointed(value["config"]["configurable"]["checkpoint_id"])


class _Steps:
    """Tells a node that runs several times in parallel as one step: AG-UI knows a step by its name only."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()

    def event(self, task: dict[str, Any]) -> Event | None:
        name = task["name"]
        if "input" in task:
            self._active[name] += 1
            return StepStarted(name) if self._active[name] == 1 else None
        self._active[name] -= 1
        return None if self._active[name] else StepFinished(name)
