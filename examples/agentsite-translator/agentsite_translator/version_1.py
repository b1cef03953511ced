from collections.abc import AsyncIterator
from typing import ClassVar, Literal

from pydantic import Field

from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.context import AgentContext
from templates_app.events import Event

from .asking import translated


class Config1(TemplateConfig):
    language: str = Field(title="Language", description="The language to translate into.", min_length=2, max_length=60)
    tone: Literal["neutral", "formal", "casual"] = Field("neutral", title="Tone", description="How it should sound.")


class Translator1(AgentTemplate):
    """The version from before: agents that were saved with it go on as they did, until somebody migrates them."""

    slug = "translator"
    version = "1.0.0"
    title = "Translator"
    description = "Translates each message on its own; remembers nothing."
    # Shown wherever the version is, and as a warning with each agent that is saved with it.
    deprecated = "It knows one language only. Migrate agents to 2.0.0, which takes several."
    capabilities: ClassVar[frozenset[str]] = frozenset({"steps"})
    Config = Config1

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        config: Config1 = context.config
        async for event in translated(context, [config.language], config.tone):
            yield event
