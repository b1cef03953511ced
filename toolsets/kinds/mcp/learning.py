"""What a server tells of its tools, made into what is stored: small, checked, and with names that models take."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from toolsets.base import ToolCallContext
from toolsets.kinds.http.credentials import hidden
from toolsets.kinds.http.document import Referred
from toolsets.kinds.http.faults import Faulty, Unusable
from toolsets.kinds.http.operations import MAX_SCHEMA, MAX_SCHEMAS, tool_name
from toolsets.kinds.http.schemas import Allowance, Copier, TooLarge, smallest_fit
from toolsets.kinds.mcp.answers import next_cursor, prompts_listed, resources_listed
from toolsets.kinds.mcp.calls import Caller
from toolsets.kinds.mcp.conversation import Conversation
from toolsets.kinds.mcp.faults import ServerError, line

MAX_LISTS = 4_000_000  # bytes of one page of tools
VERSION = 1  # of what is stored
MAX_TOOLS = 200
MAX_PAGES = 50
MAX_DESCRIPTION = 1000
MAX_NAME = 200  # characters of a tool's own name
MAX_LEFT_OUT = 50
MAX_SHOWN = 50  # resources and prompts that a description names
NOT_ON_TOP = ("anyOf", "oneOf", "allOf", "not", "enum", "const")  # OpenAI's API refuses them there
Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
OWN_NAMES = frozenset({"list_resources", "read_resource", "list_prompts", "get_prompt"})


def is_ours(learned: Any) -> bool:
    """Not what another version of this module learned."""
    return isinstance(learned, dict) and learned.get("version") == VERSION


async def learned_by(caller: Caller, context: ToolCallContext, *, resources: bool, prompts: bool) -> dict[str, Any]:
    """JSON to be stored. Raises ToolError.

    By the toolset's own secret, or without any where it has none: a server may tell everybody what persons can do.
    """
    lists = replace(caller, personal=False, most=max(caller.most, MAX_LISTS))
    if caller.personal and not context.secrets.get("token"):
        lists = replace(lists, auth="none")
    credentials = lists.credentials(context)
    until = asyncio.get_running_loop().time() + lists.timeout
    async with lists.talking(context, credentials) as talk, lists.asking(credentials, until):
        return await _learned_of(talk, credentials.forms, resources=resources, prompts=prompts)


async def _learned_of(talk: Conversation, forms: Sequence[str], *, resources: bool, prompts: bool) -> dict[str, Any]:
    """A list that the server does not offer after all is an empty one. `forms` are what must not be in it."""

    async def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = hidden(await talk.ask(method, params), forms)
        return found

    session = await talk.opened()
    offered = session.capabilities
    tools = await _pages(ask, "tools/list", "tools") if "tools" in offered else []
    found = await asyncio.to_thread(_described, tools)
    if resources and "resources" in offered:
        found["resources"] = [each["uri"] for each in await _first(ask, "resources/list", _resources)]
        found["templates"] = [each["uri"] for each in await _first(ask, "resources/templates/list", _templates)]
    if prompts and "prompts" in offered:
        found["prompts"] = [each["name"] for each in await _first(ask, "prompts/list", prompts_listed)]
    return {"version": VERSION, **found}


def _resources(result: dict[str, Any]) -> list[dict[str, Any]]:
    return resources_listed(result, "resources")


def _templates(result: dict[str, Any]) -> list[dict[str, Any]]:
    return resources_listed(result, "resourceTemplates")


async def _first(ask: Ask, method: str, read: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return read(await ask(method, {}))[:MAX_SHOWN]
    except ServerError:
        return []


async def _pages(ask: Ask, method: str, key: str) -> list[Any]:
    """Up to one more than are taken, so that it is known that there are more."""
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        result = await ask(method, {"cursor": cursor} if cursor else {})
        page = result.get(key)
        found += page if isinstance(page, list) else []
        before, cursor = cursor, next_cursor(result)
        if cursor is None or cursor == before or len(found) > MAX_TOOLS:
            break
    return found


def _described(tools: Sequence[Any]) -> dict[str, Any]:
    taken, left_out = set(OWN_NAMES), list[dict[str, str]]()
    total = Allowance(MAX_SCHEMAS)
    kept = []
    for tool in tools[:MAX_TOOLS]:
        try:
            kept.append(_tool(tool, taken, total))
        except (Faulty, Unusable, TooLarge) as error:
            why = str(error) or "The schemas of all tools together are too large."
            left_out.append({"name": _shown_name(tool), "why": why[:300]})
    if len(tools) > MAX_TOOLS:
        left_out.append(
            {"name": "", "why": f"The server has more than {MAX_TOOLS} tools, of which the first are taken."}
        )
    return {"tools": kept, "left_out": left_out[:MAX_LEFT_OUT]}


def _shown_name(tool: Any) -> str:
    return line(str(tool.get("name")), 100) if isinstance(tool, dict) else ""


def _tool(tool: Any, taken: set[str], total: Allowance) -> dict[str, Any]:
    """Raises Faulty, Unusable and TooLarge. A name that was taken is added to `taken`."""
    if not isinstance(tool, dict):
        raise Faulty("It is no object.")
    name, about, hints = tool.get("name"), tool.get("description"), tool.get("annotations")
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
        raise Faulty(f"Its name is not 1 to {MAX_NAME} printable characters.")
    execution = tool.get("execution")
    if isinstance(execution, dict) and execution.get("taskSupport") == "required":
        raise Unusable("It must be called as a task, which is not done here.")
    hints = hints if isinstance(hints, dict) else {}
    schema = _schema(tool.get("inputSchema"), total)
    fit = _free(tool_name(name) or "tool", taken)
    taken.add(fit)
    title = tool.get("title") or hints.get("title")
    text = about if isinstance(about, str) and about.strip() else title if isinstance(title, str) else name
    return {
        "name": fit,
        "own": name,
        "description": _clean(text)[:MAX_DESCRIPTION],
        "schema": schema.decode(),
        "hints": {key: True for key in ("readOnlyHint", "idempotentHint", "destructiveHint") if hints.get(key) is True},
    }


def _schema(found: Any, total: Allowance) -> bytes:
    if not isinstance(found, dict) or found.get("type", "object") != "object":
        raise Faulty("Its inputSchema is none of an object.")
    try:
        orjson.dumps(found)
    except TypeError:
        raise Unusable("Its inputSchema is nested too deep.") from None

    def build(copier: Copier) -> dict[str, Any]:
        copied = copier.copy(found)
        kept = {key: value for key, value in copied.items() if key not in NOT_ON_TOP}
        return {**kept, "type": "object", "properties": copied.get("properties", {})}

    return smallest_fit(Referred(found), build, MAX_SCHEMA, total)


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name[:58]}_{number}"
    return candidate


def _clean(text: str) -> str:
    """Lines stay."""
    return "\n".join(line(each, MAX_DESCRIPTION) for each in text[: 4 * MAX_DESCRIPTION].splitlines()).strip()
