from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.context import AgentContext
from templates_app.events import Event
from templates_app.exceptions import ConfigNotMigrated
from templates_app.requirements import Requirements

from .asking import translated

Language = Annotated[str, StringConstraints(min_length=2, max_length=60)]


class Config2(TemplateConfig):
    """Each field becomes a field of the form in the admin: give it a title, a description and, if it can have one, a
    default. Unknown fields are refused because TemplateConfig forbids them.
    """

    languages: list[Language] = Field(
        title="Languages", description="The languages to translate into.", min_length=1, max_length=5
    )
    tone: Literal["neutral", "formal"] = Field("neutral", title="Tone", description="How it should sound.")
    pictures: bool = Field(False, title="Pictures", description="Also translates the words in pictures.")


class Translator2(AgentTemplate):
    # An agent names the slug and pins a version. Agents of the same major version come to a higher one with their
    # config as it is: ship a change that old configs do not fit as a new major version, beside the old class.
    slug = "translator"
    version = "2.0.0"
    title = "Translator"
    description = "Translates each message on its own; remembers nothing."
    capabilities: ClassVar[frozenset[str]] = frozenset({"steps"})
    Config = Config2

    @classmethod
    def migrate_config(cls, from_version: str, config: dict[str, Any]) -> dict[str, Any]:
        """Turns an older config into one of this version: shown by the preview of a migration, stored when it is
        applied. What it cannot turn it refuses with a reason that people read.
        """
        if config.get("tone") == "casual":
            raise ConfigNotMigrated("There is no casual tone any more: choose neutral or formal, then migrate.")
        config["languages"] = [config.pop("language")]
        return config

    @classmethod
    def requirements(cls, config: Config2) -> Requirements:
        """What an agent with this config needs: told with all other faults when it is saved or validated."""
        return Requirements(model=frozenset({"vision"} if config.pictures else ()))

    async def run(self, context: AgentContext) -> AsyncIterator[Event]:
        config: Config2 = context.config
        async for event in translated(context, config.languages, config.tone):
            yield event
