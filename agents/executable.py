"""An agent version made ready to run: its template, its config, its tools and its model, put together."""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
from pydantic import ValidationError

from agents.exceptions import AgentUnusable
from agents.models import AgentVersion
from agents.publishing import published_of
from core.aio import in_db_thread
from core.errors import ApplicationError, InvalidRequest, NotFound
from core.validation import parse_config
from llm.binding import Sink, telling, use_binding
from llm.calls import CachePolicy
from llm.capabilities import takes_schemas
from llm.gateway import gateway
from llm.targets import Target
from llm.wire import Accumulator, ChatRequest, Delta, ToolCallDelta
from templates_app.base import AgentTemplate
from templates_app.chat import client_answer, tool_name
from templates_app.checkpoints import thread_of
from templates_app.context import AgentContext, Course, Heard, Message, Reply
from templates_app.events import Answer, Event
from templates_app.registry import registry
from toolsets.base import ToolCallContext
from toolsets.events import ToolResult
from toolsets.toolbox import GrantedToolset, Toolbox, ToolIndex, personal_secrets, tool_index


class Reporter(Protocol):
    """Hears what happens in a run, on the run's loop."""

    def open_reply(self, request: ChatRequest) -> Sink:
        """The model is asked something: what it answers goes to the sink that is returned."""

    def open_words(self) -> Sink:
        """The template says something by itself, which no model did."""

    async def tool_result(self, result: ToolResult) -> None: ...


logger = logging.getLogger(__name__)
CACHE_SIZE = 512
# They speak of the tools in one request; a graph makes several, and its own tools are not the caller's to force.
_NOT_FOR_GRAPHS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})


async def run_model(
    *, target: Target, messages: Sequence[Message], params: dict[str, Any], report: Reporter, whole: bool = False
) -> None:
    """A bare model's answer, with nothing of ours added; raises what `llm.gateway` does.

    `whole`: nobody waits for a part of it, so it is asked for in one piece, which costs a fraction of a stream.
    """
    request = ChatRequest(target.model, list(messages), params)
    tell = report.open_reply(request)
    if whole:
        await tell((await gateway.complete(request, target)).delta())
        return
    async with aclosing(gateway.stream(request, target)) as deltas:
        async for delta in deltas:
            await tell(delta)


@dataclass(frozen=True, slots=True)
class _RunModel:
    """The run's model as templates see it. The first `answers` are known: it is not asked for them."""

    target: Target
    report: Reporter
    answers: list[Message]

    async def reply(
        self, messages: Sequence[Message], *, tools: Sequence[Message] | None = None, **params: Any
    ) -> Reply:
        if tools:
            params["tools"] = list(tools)
        answer = Accumulator()
        request = ChatRequest(self.target.model, list(messages), params)
        tell = self.report.open_reply(request)
        if self.answers:
            known = self.answers.pop(0)
            reason = "tool_calls" if known.get("tool_calls") else "stop"
            await tell(_delta_of(known, reason))
            return Reply(known, reason, None)
        with telling(tell):
            async with aclosing(gateway.stream(request, self.target)) as deltas:
                async for delta in deltas:
                    answer.add(delta)
                    await tell(delta)
        done = answer.completion()
        usage = msgspec.to_builtins(done.usage) if done.usage else None
        return Reply(done.message(), done.finish_reason, usage)

    async def retell(self, message: Message, finish_reason: str) -> None:
        tell = self.report.open_reply(ChatRequest(self.target.model, [], {}))
        await tell(_delta_of(message, finish_reason))

    async def takes_schemas(self) -> bool:
        return await in_db_thread(takes_schemas, self.target)

    async def tell_calls(self, calls: list[dict[str, Any]]) -> None:
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        await self.report.open_words()(_delta_of(message, "tool_calls"))
        self._forget(message)

    def speak(self) -> "_Speech":
        return _Speech(self.report.open_words(), self._forget)

    def _forget(self, told: Message) -> None:
        """What was told in an earlier attempt too is no answer of the model."""
        known = next((answer for answer in self.answers if _said(answer) == _said(told)), None)
        if known is not None:
            self.answers.remove(known)


class _Speech:
    def __init__(self, tell: Sink, forget: Callable[[Message], None]) -> None:
        self._tell, self._forget = tell, forget
        self._text = ""

    async def say(self, text: str) -> None:
        self._text += text
        await self._tell(Delta(text=text))

    async def end(self) -> None:
        await self._tell(Delta(finish_reason="stop"))
        self._forget({"role": "assistant", "content": self._text})


def _said(message: Message) -> tuple[str, list[str]]:
    return message.get("content") or "", [call["id"] for call in message.get("tool_calls") or ()]


def _delta_of(message: Message, finish_reason: str) -> Delta:
    """A whole message, as a model says it."""
    calls = [
        ToolCallDelta(index, call["id"], call["function"]["name"], call["function"]["arguments"])
        for index, call in enumerate(message.get("tool_calls") or ())
    ]
    return Delta(
        text=message.get("content") or "",
        refusal=message.get("refusal"),
        tool_calls=calls or None,
        finish_reason=finish_reason,
    )


@cache
def _chat_model() -> Any:
    """One for all agents: it finds the run's model at each call. Imports LangChain, which natives never need."""
    from llm.chat_model import RoutedChatModel

    return RoutedChatModel()


@dataclass(slots=True)
class _Shared:
    """What the runs of a version share as long as its toolsets stay as they are."""

    revisions: tuple[tuple[str, str], ...]
    index: ToolIndex
    compiled: dict[str, Any] = field(default_factory=dict)


class Executable:
    """Holds nothing of a run: many runs use it at once. Raises AgentUnusable when the template is gone."""

    def __init__(self, version: AgentVersion) -> None:
        self.template = _template(version)
        self._tenant_id = version.tenant_id
        self._published = partial(in_db_thread, published_of, version.tenant_id, version.id)
        self._instructions = version.instructions
        self._shared = _Shared((), tool_index(()))
        try:
            self._config = parse_config(self.template.Config, version.config)
        except ValidationError:
            message = (
                f"The template '{version.template}' {version.template_version} no longer takes the agent's config."
            )
            raise AgentUnusable(message) from None

    async def run(
        self,
        *,
        report: Reporter,
        messages: list[Message],
        params: dict[str, Any],
        client_tools: list[dict[str, Any]],
        target: Target,
        toolsets: Sequence[GrantedToolset] = (),
        run_id: UUID | None = None,
        session_id: UUID | None = None,
        person: str = "",
        checkpointed: bool = False,
        resume: str | None = None,
        heard: Heard | None = None,
        make_toolbox: Callable[..., Toolbox] = Toolbox,
        answers: Sequence[Message] = (),
        metadata: Mapping[str, str] | None = None,
        attempt: int = 1,
        course: Course | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The template's events; the last is its Answer. Each run is a task of its own, whose context it uses.

        Tokens and tool results go to `report`. `checkpointed` keeps the checkpoints of a graph until they are forgotten
        (`templates_app.checkpoints`); it needs a run_id without any, or `resume`, the id of the one to go on from.
        `heard` gives the messages that users sent meanwhile. `person` is whom the run is for (toolsets/persons.py), and
        the `toolsets` were granted to. `answers` are those that the model has given already, in an earlier attempt; a
        graph has them in its checkpoints. `metadata`, `attempt` and `course` are as in `AgentContext`. Raises
        ApplicationError; InvalidRequest for tools of the caller that the template cannot use.
        """
        shared = self._shared_by([toolset for toolset in toolsets if self._may_use(toolset)])
        self._check_client_tools(client_tools, shared.index)
        tools = make_toolbox(
            shared.index,
            emit=report.tool_result,
            context=ToolCallContext(self._tenant_id, run_id, session_id, person=person),
            personal=personal_secrets(toolsets),
            # What another attempt of a graph has read is told again, and not read again.
            untrusted=resume is not None or (checkpointed and attempt > 1) or _from_outside(messages, shared.index),
        )
        context = AgentContext(
            config=self._config,
            instructions=self._instructions,
            messages=messages,
            model=_RunModel(target, report, list(answers)),
            make_chat_model=_chat_model,
            tools=tools,
            client_tools=client_tools,
            params=params,
            tenant_id=self._tenant_id,
            run_id=run_id,
            session_id=session_id,
            thread=thread_of(self._tenant_id, run_id) if checkpointed and run_id else None,
            resume=resume,
            compiled=shared.compiled,
            metadata=dict(metadata or {}),
            published=self._published,
            attempt=attempt,
            course=course or Course(),
            **({"heard": heard} if heard else {}),
        )
        defaults = {name: value for name, value in params.items() if name not in _NOT_FOR_GRAPHS}
        with use_binding(target, open_reply=report.open_reply, params=defaults):
            async with aclosing(self.template.run(context)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Answer):
                        yield _for_caller(event, client_tools)
                        return
                    yield event
        raise ApplicationError("The agent's template ended without an answer.", code="no_answer")

    def _may_use(self, toolset: GrantedToolset) -> bool:
        """Was it granted when another kind had its slug, or when another version of the template allowed it?"""
        allowed = toolset.reserved in {"", *self.template.reserved_toolsets}
        if not allowed:
            logger.warning("A granted toolset is reserved for other templates", extra={"toolset": toolset.slug})
        return allowed

    def _shared_by(self, toolsets: Sequence[GrantedToolset]) -> _Shared:
        """Compiled anew when a toolset was changed, switched off or on; runs under way keep what they have."""
        revisions = tuple((toolset.slug, toolset.revision) for toolset in toolsets)
        if revisions != self._shared.revisions:
            self._shared = _Shared(revisions, tool_index(toolsets))
        return self._shared

    def _check_client_tools(self, client_tools: list[dict[str, Any]], index: ToolIndex) -> None:
        if client_tools and "client_tools" not in self.template.capabilities:
            message = f"The agent's template '{self.template.slug}' takes no tools of the caller."
            raise InvalidRequest(message, code="client_tools_unsupported", param="tools")
        for position, tool in enumerate(client_tools):
            name = (tool.get("function") or {}).get("name")
            if name in index.tools:
                message = f"The agent has a tool '{name}' of its own: rename yours."
                raise InvalidRequest(message, code="tool_name_clash", param=f"tools.{position}")


def _from_outside(messages: Sequence[Message], index: ToolIndex) -> bool:
    """Did a tool answer in the conversation that is not known to tell only what the tenant itself has?"""
    calls = {tool_name(call) for message in messages for call in message.get("tool_calls") or ()}
    return any(name not in index.tools or index.tools[name].tool.untrusted for name in calls)


def _for_caller(answer: Answer, client_tools: list[dict[str, Any]]) -> Answer:
    """A caller is never asked to run a tool that is not its own, such as one that a model made up."""
    calls = answer.message.get("tool_calls")
    if not calls:
        return answer
    names = {tool_name(tool) for tool in client_tools}
    theirs = [call for call in calls if tool_name(call) in names]
    if theirs:
        return client_answer(answer.message, theirs)
    message = {key: value for key, value in answer.message.items() if key != "tool_calls"}
    reason = "stop" if answer.finish_reason == "tool_calls" else answer.finish_reason
    return Answer({**message, "content": message.get("content") or ""}, reason)


def cache_policy(version: AgentVersion) -> CachePolicy | None:
    return CachePolicy(version.cache_seconds, str(version.id)) if version.cache_seconds else None


def _template(version: AgentVersion) -> AgentTemplate:
    try:
        return registry.get(version.template, version.template_version)
    except NotFound as error:
        raise AgentUnusable(error.message) from None


_cache: OrderedDict[UUID, Executable] = OrderedDict()
_lock = threading.Lock()


def _held(version: AgentVersion) -> Executable | None:
    with _lock:
        held = _cache.get(version.id)
        if held is None or held.template is not _template(version):
            return None
        _cache.move_to_end(version.id)
        return held


def executable_for(version: AgentVersion) -> Executable:
    """Cached by version, which never changes; made anew when the registry has another template for it."""
    held = _held(version)
    return held or _kept(version, Executable(version))


async def executable_of(version: AgentVersion) -> Executable:
    """The same, made in a thread: the check of a config may take as long as a hundred schemas in it do."""
    held = _held(version)
    return held if held is not None else await asyncio.to_thread(executable_for, version)


def _kept(version: AgentVersion, made: Executable) -> Executable:
    with _lock:
        held = _cache.get(version.id)
        if held is not None and held.template is made.template:
            made = held  # another thread was faster
        _cache[version.id] = made
        _cache.move_to_end(version.id)
        while len(_cache) > CACHE_SIZE:
            _cache.popitem(last=False)
        return made
