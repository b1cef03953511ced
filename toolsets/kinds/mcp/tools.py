"""Tools of what was learned of a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

from pydantic import Field

from toolsets.base import Risk, Tool, ToolArguments, ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.http.arguments import OperationArguments, arguments_of
from toolsets.kinds.mcp import answers
from toolsets.kinds.mcp.calls import Caller
from toolsets.kinds.mcp.learning import is_ours

CLASSES = 2048  # of arguments, that are kept
MAX_NAMED = 1500  # characters of the names in a description


class Schema(NamedTuple):
    name: str
    schema: bytes


class Page(ToolArguments):
    cursor: str = Field("", max_length=2000, description="The `next_cursor` of the page before; empty for the first.")


class ReadResource(ToolArguments):
    uri: str = Field(min_length=1, max_length=2000, description="As listed, or made of a listed template.")


class GetPrompt(ToolArguments):
    name: str = Field(min_length=1, max_length=300, description="As listed.")
    arguments: dict[str, str] = Field(default_factory=dict, max_length=50, description="As the list says.")


def made_of(caller: Caller, learned: Any, *, resources: bool, prompts: bool, trusted: bool) -> list[Tool]:
    if not is_ours(learned):
        return []
    made = [_of_server(caller, tool, trusted) for tool in learned["tools"]]
    server = Server(caller)
    if resources and "resources" in learned:
        uris, templates = _named("resources", learned["resources"]), _named("templates", learned["templates"])
        made.append(_reading(caller, "list_resources", "Lists the server's resources.", Page, server.resources))
        made.append(_reading(caller, "read_resource", f"Reads a resource.{uris}{templates}", ReadResource, server.read))
    if prompts and "prompts" in learned:
        names = _named("prompts", learned["prompts"])
        made.append(_reading(caller, "list_prompts", "Lists the server's prompts.", Page, server.prompts))
        made.append(_reading(caller, "get_prompt", f"Gets a prompt, filled in.{names}", GetPrompt, server.prompt))
    return made


def _of_server(caller: Caller, tool: dict[str, Any], trusted: bool) -> Tool:
    """One at a time, unless it may be made again: who knows what they change."""
    hints = tool["hints"] if trusted else {}
    again = "readOnlyHint" in hints or "idempotentHint" in hints
    return Tool(
        tool["name"],
        tool["description"],
        _arguments(tool["name"], tool["schema"]),
        partial(Server(caller).call, tool["own"], again),
        risk=Risk.EGRESS,
        timeout=caller.timeout + 2.0,  # longer than its own, which says more
        parallel=again,
        untrusted=True,
        approval="destructiveHint" in hints and "readOnlyHint" not in hints,
        repeatable=again,
    )


def _reading(caller: Caller, name: str, description: str, arguments: type[ToolArguments], call: Any) -> Tool:
    """By the protocol these change nothing."""
    timeout = caller.timeout + 2.0
    return Tool(name, description, arguments, call, risk=Risk.EGRESS, timeout=timeout, untrusted=True, repeatable=True)


def _named(what: str, names: Sequence[str]) -> str:
    return f" Its {what} are, or begin with: {', '.join(names)}"[:MAX_NAMED] + "." if names else ""


@lru_cache(CLASSES)
def _arguments(name: str, schema: str) -> type[OperationArguments]:
    return arguments_of(Schema(name, schema.encode()))


@dataclass(frozen=True, slots=True)
class Server:
    """What the tools do. Each raises ToolError."""

    caller: Caller

    async def call(self, own: str, again: bool, arguments: OperationArguments, context: ToolCallContext) -> Any:
        params = {"name": own, "arguments": arguments.root}
        return answers.tool_answer(await self.caller.ask("tools/call", params, context, again=again))

    async def resources(self, page: Page, context: ToolCallContext) -> Any:
        """The templates come with the first page."""
        found = await self._listed("resources/list", page.cursor, context)
        told = {"resources": answers.resources_listed(found, "resources"), "next_cursor": answers.next_cursor(found)}
        if page.cursor:
            return told
        try:
            templates = await self._listed("resources/templates/list", "", context)
        except ToolError:  # many servers have none, and say so by an error
            return {**told, "templates": []}
        return {**told, "templates": answers.resources_listed(templates, "resourceTemplates")}

    async def read(self, wanted: ReadResource, context: ToolCallContext) -> Any:
        found = await self.caller.ask("resources/read", {"uri": wanted.uri}, context, again=True)
        return answers.resource_answer(found)

    async def prompts(self, page: Page, context: ToolCallContext) -> Any:
        found = await self._listed("prompts/list", page.cursor, context)
        return {"prompts": answers.prompts_listed(found), "next_cursor": answers.next_cursor(found)}

    async def prompt(self, wanted: GetPrompt, context: ToolCallContext) -> Any:
        params = {"name": wanted.name, "arguments": wanted.arguments}
        return answers.prompt_answer(await self.caller.ask("prompts/get", params, context, again=True))

    async def _listed(self, method: str, cursor: str, context: ToolCallContext) -> dict[str, Any]:
        params = {"cursor": cursor} if cursor else {}
        return await self.caller.ask(method, params, context, again=True)
