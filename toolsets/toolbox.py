"""The tools of one agent: what the model is told of them, and the calls that it makes."""

import asyncio
import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import orjson
from pydantic import ValidationError

from core.deadline import deadline
from core.ids import uuid7
from core.validation import pydantic_faults, storable_text
from core.words import counted
from toolsets import limits
from toolsets.base import TOOL_NAME, Risk, Tool, ToolCallContext
from toolsets.events import ToolResult
from toolsets.exceptions import ToolError
from toolsets.ledger import Answer, Call, Ledger, NoLedger
from toolsets.policy import Policy

logger = logging.getLogger(__name__)
MAX_CONTENT = 200 * 1024  # characters of one result
SAME_CALLS = 3  # of one tool with the same arguments, in one run
EDITED = "[A person changed the arguments to]"
Emit = Callable[[ToolResult], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GrantedToolset:
    """A toolset that an agent may use, ready to call. `revision` changes whenever its tools may have changed.

    `personal`: its secrets are those of the person that the run is for, and of no use to another run.
    `reserved` is its kind, where only agents may have it whose template names the kind.
    """

    slug: str
    revision: str
    tools: Sequence[Tool]  # with its policy applied
    policy: Policy = field(default_factory=Policy)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    personal: bool = False
    reserved: str = ""


@dataclass(frozen=True, slots=True)
class Offered:
    tool: Tool
    toolset: GrantedToolset


@dataclass(frozen=True)
class ToolIndex:
    """The tools of all granted toolsets by the name that the model uses; `clashes` are names that were left out."""

    tools: Mapping[str, Offered]
    clashes: list[str]

    @cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """OpenAI function tools. Made at the first use: schemas cost milliseconds, and checking names needs none."""
        return [_definition(name, offered.tool) for name, offered in self.tools.items()]


def tool_index(granted: Iterable[GrantedToolset]) -> ToolIndex:
    """A name that several toolsets use is prefixed by their slugs; what is no usable name even then is left out.

    Runs share an index, so it has no person's secrets: see Toolbox.
    """
    shared = [replace(toolset, secrets={}) if toolset.personal else toolset for toolset in granted]
    offered = [Offered(tool, toolset) for toolset in shared for tool in toolset.tools]
    counts = Counter(each.tool.name for each in offered)
    tools: dict[str, Offered] = {}
    clashes: list[str] = []
    for each in offered:
        name = each.tool.name if counts[each.tool.name] == 1 else f"{each.toolset.slug}_{each.tool.name}"
        if name in tools or not TOOL_NAME.fullmatch(name):
            clashes.append(name)
        else:
            tools[name] = each
    return ToolIndex(tools, clashes)


def _definition(name: str, tool: Tool) -> dict[str, Any]:
    function = {"name": name, "description": tool.description, "parameters": tool.parameters()}
    return {"type": "function", "function": function}


def personal_secrets(granted: Iterable[GrantedToolset]) -> dict[str, Mapping[str, str]]:
    """By slug, for a Toolbox."""
    return {toolset.slug: toolset.secrets for toolset in granted if toolset.personal}


class Toolbox:
    """The tools of one run. Each call is validated, limited, kept by the ledger and told to `emit`.

    No fault of a tool escapes. Calls may be made at once; a tool that does not take that waits for the others of its
    toolset. `personal` are the secrets of the run's person, by toolset. `untrusted`: the model is shown what came from
    outside before.
    """

    def __init__(
        self,
        index: ToolIndex,
        *,
        emit: Emit,
        context: ToolCallContext,
        ledger: Ledger | None = None,
        personal: Mapping[str, Mapping[str, str]] | None = None,
        untrusted: bool = False,
    ) -> None:
        self._index = index
        self._personal = personal or {}
        self._emit = emit
        self._context = context
        self._ledger: Ledger = ledger or NoLedger()
        self._ledger.untrusted = self._ledger.untrusted or untrusted
        self._repeated: Counter[tuple[str, str, str]] = Counter()  # by the model's id, tool and arguments
        self._alike: Counter[tuple[str, str]] = Counter()  # by tool and arguments
        self._calls: Counter[str] = Counter()  # by toolset
        self._alone: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def definitions(self) -> list[dict[str, Any]]:
        return self._index.definitions

    async def call(self, tool_call: dict[str, Any]) -> dict[str, Any]:
        """Run one tool call in OpenAI's shape; the `role: tool` message that answers it."""
        call_id = str(tool_call.get("id") or "")
        function = tool_call.get("function") or {}
        name = str(function.get("name") or "")
        answer = await self._answer(call_id, name, function.get("arguments"))
        await self._emit(ToolResult(call_id, name, answer.content, answer.is_error, answer.ms))
        return {"role": "tool", "tool_call_id": call_id, "content": answer.content}

    async def answer(self, tool_call: dict[str, Any], content: str, *, is_error: bool = False) -> dict[str, Any]:
        """Answer a call without making it: by what is known of it, or why it is not made. It counts among those that
        are alike.
        """
        function = tool_call.get("function") or {}
        call_id, name = str(tool_call.get("id") or ""), str(function.get("name") or "")
        self._repeated[call_id, name, _text_of(function.get("arguments"))] += 1
        await self._emit(ToolResult(call_id, name, content, is_error, 0))
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    async def _answer(self, call_id: str, name: str, arguments: Any) -> Answer:
        offered = self._index.tools.get(name)
        if offered is None:
            text = f"There is no tool '{name}'. Available: {', '.join(self._index.tools) or 'none'}."
            return answer_of(text, is_error=True)
        call = self._call_of(call_id, name, offered, arguments)
        try:
            return await self._answered(call, offered)
        except BaseException:
            self._ledger.give_up(call)
            raise

    async def _answered(self, call: Call, offered: Offered) -> Answer:
        try:
            parsed = self._checked(call, offered)
            edited = await self._approved(call, offered)
            if edited is not None:
                call, parsed = replace(call, arguments=edited), parse_arguments(offered.tool, edited)
        except ToolError as error:
            answer = answer_of(str(error), is_error=True)
            await self._ledger.finish(call, answer, begun=False)
            return answer
        async with AsyncExitStack() as stack:
            if not offered.tool.parallel:
                await stack.enter_async_context(self._alone[offered.toolset.slug])
            answer = await self._once(call, offered, parsed)
        self._ledger.untrusted = self._ledger.untrusted or offered.tool.untrusted
        if edited is not None:
            answer = answer._replace(content=f"{EDITED} {edited}\n{answer.content}")
        return answer

    async def _approved(self, call: Call, offered: Offered) -> str | None:
        """The arguments that a person put in place of the call's own. Raises ToolError when it must not be made."""
        if offered.tool.approval:
            return await self._ledger.approve(call, "policy")
        careful = offered.toolset.policy.approval == "after_untrusted" and offered.tool.risk is not Risk.READ
        return await self._ledger.approve(call, "untrusted") if careful and self._ledger.untrusted else None

    async def _once(self, call: Call, offered: Offered, parsed: Any) -> Answer:
        begun = offered.tool.once
        known = await self._ledger.begin(call, once=begun)
        if known is not None:
            return known
        started = time.monotonic()
        try:
            answer = await self._made(call, offered, parsed)
        except ToolError as error:
            answer = answer_of(str(error), is_error=True)
        answer = answer._replace(ms=round((time.monotonic() - started) * 1000))
        await self._ledger.finish(call, answer, begun=begun)
        return answer

    def _call_of(self, call_id: str, name: str, offered: Offered, arguments: Any) -> Call:
        text = _text_of(arguments)
        self._repeated[call_id, name, text] += 1
        number, id = self._repeated[call_id, name, text], uuid7()
        asked = "\0".join((call_id, name, text, str(number)))
        return Call(
            id,
            key=hashlib.sha256(asked.encode()).hexdigest(),
            began=datetime.now(UTC),
            call_id=storable_text(call_id),
            toolset=offered.toolset.slug,
            tool=name,
            risk=offered.tool.risk.value,
            arguments=text,
            approver=offered.toolset.policy.approver,
        )

    def _checked(self, call: Call, offered: Offered) -> Any:
        """The arguments. Raises ToolError for what is wrong or too much."""
        self._refuse_more(call, offered)
        return parse_arguments(offered.tool, call.arguments)

    async def _made(self, call: Call, offered: Offered, parsed: Any) -> Answer:
        """Raises ToolError."""
        tool, toolset = offered.tool, offered.toolset
        secrets = self._personal.get(toolset.slug, toolset.secrets)
        context = replace(self._context, toolset=toolset.slug, call=call.id, secrets=secrets)
        most = toolset.policy.max_result_kb * 1024
        try:
            async with deadline(tool.timeout):
                return answer_of(await tool.call(parsed, context), most=most)
        except TimeoutError:
            raise ToolError(f"The tool did not finish within {tool.timeout:g} s.") from None
        except ToolError:
            raise
        except Exception:
            logger.exception("A tool failed", extra={"tool": call.tool, "run_id": str(self._context.run_id)})
            raise ToolError("The tool failed on the server.") from None

    def _refuse_more(self, call: Call, offered: Offered) -> None:
        """Raises ToolError for a call beyond the limits of its toolset, and for one that was made often enough."""
        slug, policy = offered.toolset.slug, offered.toolset.policy
        self._calls[slug] += 1
        self._alike[call.tool, call.arguments] += 1
        if self._alike[call.tool, call.arguments] > SAME_CALLS:
            raise ToolError(f"You made this same call {SAME_CALLS} times: go on with its answers, or ask otherwise.")
        if policy.calls_per_run is not None and self._calls[slug] > policy.calls_per_run:
            often = counted(policy.calls_per_run, "time")
            raise ToolError(f"The tools of '{slug}' may be called {often} in a run: no further.")
        most = policy.calls_per_minute
        if most is not None and not limits.has_room(self._context.tenant_id, slug, most):
            raise ToolError(f"The tools of '{slug}' may be called {counted(most, 'time')} a minute: try again later.")


def _text_of(arguments: Any) -> str:
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return storable_text(text or "{}")


def parse_arguments(tool: Tool, arguments: str) -> Any:
    """Raises ToolError that names every fault, so that the model can mend its call."""
    try:
        return tool.arguments.model_validate_json(arguments)
    except ValidationError as error:
        faults = "; ".join(f"{fault['path'] or 'arguments'}: {fault['message']}" for fault in pydantic_faults(error))
        raise ToolError(f"The arguments are wrong. {faults}") from None


def answer_of(result: Any, *, is_error: bool = False, most: int = MAX_CONTENT) -> Answer:
    """What the model is shown: JSON but for text, storable (no NUL, no lone surrogate), of `most` characters."""
    text = (
        result
        if isinstance(result, str)
        else orjson.dumps(result, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    )
    text = storable_text(text)
    size = len(text.encode())
    if len(text) > most:
        text = f"{text[:most]}\n[cut: {len(text)} characters in all; the toolset's policy (max_result_kb) raises this]"
    return Answer(text, is_error, size)
