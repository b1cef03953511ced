from collections.abc import AsyncIterator
from typing import ClassVar

from pydantic import Field

from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.chat import client_answer, model_params, tool_calls, with_instructions
from templates_app.context import AgentContext
from templates_app.events import Answer, Event


class SimpleConfig(TemplateConfig):
    temperature: float | None = Field(
        None, ge=0, le=2, title="Temperature", description="0 is steady, higher is freer; empty: the model's default."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, title="Longest answer", description="In tokens; empty: the model's default."
    )


class SimpleTemplate(AgentTemplate):
    slug = "simple"
    version = "1.0.0"
    title = "Simple"
    description = "Answers with one call of the model, given the instructions and all messages."
    capabilities: ClassVar[frozenset[str]] = frozenset({"client_tools", "history", "structured_output"})
    Config = SimpleConfig

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        config: SimpleConfig = context.config
        tools = context.client_tools
        params = model_params(
            context.params, tools=bool(tools), temperature=config.temperature, max_tokens=config.max_tokens
        )
        reply = await context.model.reply(
            with_instructions(context.instructions, context.messages), tools=tools or None, **params
        )
        calls = tool_calls(reply)
        yield client_answer(reply.message, calls) if calls else Answer(reply.message, reply.finish_reason)
