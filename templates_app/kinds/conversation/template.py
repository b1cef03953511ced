import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from pydantic import Field

from core.errors import ApplicationError
from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.chat import client_answer, model_params, tool_calls, tool_name, with_instructions
from templates_app.context import AgentContext, Message, Reply
from templates_app.events import Answer, Event
from templates_app.kinds.conversation.history import window


class ConversationConfig(TemplateConfig):
    history_turns: int = Field(
        20,
        ge=1,
        le=500,
        title="History",
        description="How many of the last turns the model sees, the new one included.",
    )
    max_steps: int = Field(
        8, ge=1, le=50, title="Steps", description="How often the model may be asked in one turn; tools run in between."
    )
    temperature: float | None = Field(
        None, ge=0, le=2, title="Temperature", description="0 is steady, higher is freer; empty: the model's default."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, title="Longest answer", description="In tokens; empty: the model's default."
    )


class ConversationTemplate(AgentTemplate):
    slug = "conversation"
    version = "1.0.0"
    title = "Conversation"
    description = (
        "Talks with a memory of the last turns and uses tools until it has an answer or reaches its step limit."
    )
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"tools", "client_tools", "history", "structured_output", "steering"}
    )
    Config = ConversationConfig

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        config: ConversationConfig = context.config
        messages = with_instructions(context.instructions, window(context.messages, config.history_turns))
        tools = context.tools.definitions + context.client_tools
        params = model_params(
            context.params, tools=bool(tools), temperature=config.temperature, max_tokens=config.max_tokens
        )
        for step in range(1, config.max_steps + 1):
            last = step == config.max_steps and bool(tools)
            if last and step > 1:
                params["tool_choice"] = "none"
            reply = await context.model.reply(messages, tools=tools or None, **params)
            results = await _results(context, reply)
            answer = _answer(context, reply, last=last)
            may_hear = step < config.max_steps and not _clients(context, reply)
            heard = await context.heard() if may_hear else []
            if answer is not None and not heard:
                yield answer
                return
            messages += [reply.message, *results, *heard]
            _release_choice(params)


def _clients(context: AgentContext, reply: Reply) -> list[dict[str, Any]]:
    names = {tool_name(tool) for tool in context.client_tools}
    return [call for call in tool_calls(reply) if tool_name(call) in names]


def _answer(context: AgentContext, reply: Reply, *, last: bool) -> Answer | None:
    """None while the model has to see the results of server tools; a call of a client's tool ends the run.

    Raises ApplicationError for a model that insists on tools, and says nothing, although its steps are used up.
    """
    calls = tool_calls(reply)
    if not calls:
        return Answer(reply.message, reply.finish_reason)
    theirs = _clients(context, reply)
    if theirs:
        return client_answer(reply.message, theirs)
    if not last:
        return None
    if not reply.message.get("content"):
        message = "The model still called tools at its last step; the agent's max_steps raises this limit."
        raise ApplicationError(message, code="too_many_steps")
    return Answer({key: value for key, value in reply.message.items() if key != "tool_calls"}, "length")


async def _results(context: AgentContext, reply: Reply) -> list[Message]:
    """Every call of a server tool is run, whatever becomes of the reply: no call stays without its result."""
    theirs = _clients(context, reply)
    ours = [call for call in tool_calls(reply) if call not in theirs]
    return list(await asyncio.gather(*(context.tools.call(call) for call in ours)))


def _release_choice(params: dict[str, Any]) -> None:
    """A tool that the caller forced was called: forcing it again would never let the model answer."""
    if params.get("tool_choice") not in (None, "none"):
        params["tool_choice"] = "auto"
