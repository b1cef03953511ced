"""A graph with a node for each step of an agent's config."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypedDict

from core.errors import Conflict, InvalidRequest
from templates_app.chat import model_params, tool_name
from templates_app.context import AgentContext, Message
from templates_app.current_step import in_step
from templates_app.events import Answer, Custom, StepFailed, StepFinished, StepStarted
from templates_app.kinds.conversation.history import window
from templates_app.langgraph import LangGraphTemplate, tell
from templates_app.stepwise.config import raw_steps
from templates_app.stepwise.journal import Journal, Result, journal_of
from templates_app.stepwise.talk import Talk
from templates_app.stepwise.texts import Values

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.graph import StateGraph

_NOT_FOR_STEPS = ("response_format", "tool_choice")


class Step(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def depends_on(self) -> list[str]: ...
    @property
    def tools(self) -> list[str]: ...
    @property
    def max_tool_rounds(self) -> int: ...


def _merged(held: dict[str, Result], new: dict[str, Result]) -> dict[str, Result]:
    return {**held, **new}


class _State(TypedDict):
    results: Annotated[dict[str, Result], _merged]
    answer: dict[str, str]


@dataclass
class Progress:
    """What the steps of one run share: its context, and the results of those that have ended."""

    context: AgentContext
    journal: Journal
    total: int
    results: dict[str, Result] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, results: dict[str, Result]) -> None:
        self.results.update(results)
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, steps: Sequence[str]) -> None:
        """Returns once these have ended."""
        while not all(step in self.results for step in steps):
            await self._news.wait()

    @cached_property
    def values(self) -> Values:
        return Values(input_of(self.context.messages), self.context.metadata, self.results)

    async def tell(self, event: StepStarted | StepFinished | StepFailed) -> None:
        types = {StepStarted: "STEP_STARTED", StepFinished: "STEP_FINISHED", StepFailed: "step_failed"}
        await self.context.course.turn(types[type(event)], event.name)
        await tell(event)

    async def tell_progress(self, name: str, step: str, status: str) -> None:
        await self.context.course.turn(name, step)
        value = {"step": step, "status": status, "done": len(self.results), "total": self.total}
        await tell(Custom(name, value))


class StepwiseTemplate(LangGraphTemplate):
    """A subclass performs one step; it is told, timed, kept in the journal and, after a crash, told once more here.

    Steps run one after another in the config's order, or, `at_once`, each as soon as those that it depends on have
    ended. All of the latter are one super-step of the graph, since the next would wait for the slowest of them.
    """

    nodes_are_steps = False
    recursion_limit = 60
    event: ClassVar[str]

    @abstractmethod
    def steps(self, config: Any) -> Sequence[Step]:
        """In an order in which they can run."""

    @abstractmethod
    async def perform(self, step: Any, run: Progress) -> Result:
        """Its `status` (ok, failed or skipped), its `output`, and what else the template wants to know of it."""

    @abstractmethod
    def conclude(self, config: Any, values: Values) -> tuple[str, str]:
        """The text of the agent's answer, and why it ended; `values` have all results."""

    def at_once(self, config: Any) -> bool:
        return False

    def says_answer(self, step: Any, config: Any) -> bool:
        """Is what the model says in this step the agent's answer, word by word?"""
        return False

    def graph(
        self, config: Any, model: "BaseChatModel", tools: Sequence["BaseTool"]
    ) -> "StateGraph[Any, Any, Any, Any]":
        from langgraph.graph import END, START, StateGraph

        steps, graph = self.steps(config), StateGraph(_State)
        # LangGraph begins nodes in the order of their names, and takes none that is called like a channel of the state.
        nodes = [f"{place:02}-{step.name}" for place, step in enumerate(steps)]
        for node, step in zip(nodes, steps, strict=True):
            graph.add_node(node, self._node(step))
        graph.add_node("answer", self._answer_node(config))
        if self.at_once(config):
            for node in nodes:
                graph.add_edge(START, node)
            graph.add_edge(nodes, "answer")
        else:
            for before, node in pairwise([START, *nodes, "answer"]):
                graph.add_edge(before, node)
        graph.add_edge("answer", END)
        return graph

    @classmethod
    def named_tools(cls, config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        for place, step in enumerate(raw_steps(config)):
            named = step.get("tools")
            for number, name in enumerate(named if isinstance(named, list) else ()):
                if isinstance(name, str):
                    yield f"steps.{place}.tools.{number}", name

    def state(self, context: AgentContext) -> dict[str, Any]:
        return {"results": {}}

    def answer(self, state: dict[str, Any]) -> Answer:
        said = state["answer"]
        return Answer({"role": "assistant", "content": said["content"]}, said["finish_reason"])

    async def runtime(self, context: AgentContext) -> Progress:
        steps = self.steps(context.config)
        _check(steps, context)
        return Progress(context, await journal_of(context), len(steps))

    def _answer_node(self, config: Any) -> Any:
        async def node(state: _State) -> dict[str, Any]:
            from langgraph.runtime import get_runtime

            run: Any = get_runtime().context
            run.end(state["results"])
            content, finish_reason = self.conclude(config, run.values)
            return {"answer": {"content": content, "finish_reason": finish_reason}}

        return node

    def _node(self, step: Step) -> Any:
        async def node(state: _State) -> dict[str, Any]:
            from langgraph.runtime import get_runtime

            run: Any = get_runtime().context
            run.end(state["results"])
            await run.until(step.depends_on)
            result = await self._told(step, run)
            run.end({step.name: result})
            await run.tell_progress(self.event, step.name, result["status"])
            return {"results": {step.name: result}}

        return node

    async def _told(self, step: Step, run: Progress) -> Result:
        await run.tell(StepStarted(step.name))
        await run.tell_progress(self.event, step.name, "running")
        entry = run.journal.entry(step.name)
        began = time.monotonic()
        answers = self.says_answer(step, run.context.config)
        with in_step("" if answers else step.name):
            await talk_of(step, run, []).retell()
            if entry.result is None:
                result = await self.perform(step, run)
                ms = run.context.course.took(step.name, round((time.monotonic() - began) * 1000))
                entry.result = {**result, "ms": ms}
                await run.journal.keep(step.name)
        await run.tell(StepFinished(step.name, entry.result["ms"]))
        return entry.result


def _check(steps: Sequence[Step], context: AgentContext) -> None:
    """Raises ApplicationError for what no step could do."""
    wanted = context.params.get("response_format") or {"type": "text"}
    if wanted.get("type") != "text":
        message = "The agent's template takes no response_format: its config says what it answers with."
        raise InvalidRequest(message, code="response_format_unsupported", param="response_format")
    granted = {tool_name(tool) for tool in context.tools.definitions}
    for step in steps:
        if missing := sorted(set(step.tools) - granted):
            message = f"The step '{step.name}' names the tool '{missing[0]}', which the agent was not granted."
            raise Conflict(message, code="tool_not_granted")


def _parts(messages: list[Message]) -> list[dict[str, Any]]:
    """Of the last message of the user."""
    content = next((message["content"] for message in reversed(messages) if message.get("role") == "user"), "")
    if isinstance(content, list):
        return [part for part in content if isinstance(part, dict)]
    return [{"type": "text", "text": str(content or "")}]


def input_of(messages: list[Message]) -> str:
    return "".join(str(part.get("text") or "") for part in _parts(messages))


def user_message(text: str, context: AgentContext, *, with_media: bool) -> Message:
    """`with_media`: and the images and files that came with the input."""
    media = [part for part in _parts(context.messages) if part.get("type") != "text"] if with_media else []
    return {"role": "user", "content": [{"type": "text", "text": text}, *media] if media else text}


def history(context: AgentContext, turns: int) -> list[Message]:
    """The messages before the last one of the user: of so many turns, and the instructions among them."""
    places = [place for place, message in enumerate(context.messages) if message.get("role") == "user"]
    before = context.messages[: places[-1]] if places else list(context.messages)
    if turns:
        return window(before, turns)
    return [message for message in before if message.get("role") in ("system", "developer")]


def talk_of(step: Step, run: Progress, asked: list[Message], **params: Any) -> Talk:
    """`params` are the step's own, which give way to the caller's."""
    context = run.context
    names = set(step.tools)
    tools = [tool for tool in context.tools.definitions if not names or tool_name(tool) in names]
    tools = tools if step.max_tool_rounds else []
    caller = {name: value for name, value in context.params.items() if name not in _NOT_FOR_STEPS}
    given = model_params(caller, tools=bool(tools), **params)
    return Talk(step.name, context, run.journal, asked, tools, step.max_tool_rounds, given)
