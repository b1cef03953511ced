"""What an agent template is."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from inspect import isasyncgenfunction
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from core.validation import SLUG, config_schema
from templates_app.context import AgentContext
from templates_app.events import Event
from templates_app.exceptions import TemplateInvalid
from templates_app.versions import parse_version

CAPABILITIES = frozenset({"tools", "client_tools", "history", "structured_output", "steps", "steering"})


class TemplateConfig(BaseModel):
    """The base of a template's config: unknown fields are faults."""

    model_config = ConfigDict(extra="forbid")


class AgentTemplate(ABC):
    """One way to answer; the class is stateless and one instance serves all agents and runs.

    `capabilities` say what it can use: `tools` (of granted toolsets), `client_tools` (of the caller), `history`,
    `structured_output` (the caller's response_format), `steps` (it tells its progress), `steering` (it hears
    what is said while it runs).
    """

    slug: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    framework: ClassVar[str] = "native"
    capabilities: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[BaseModel]] = TemplateConfig

    @abstractmethod
    def run(self, context: AgentContext) -> AsyncIterator[Event]:
        """An async generator that ends with exactly one Answer. Raises ApplicationError for a failure to show."""

    def named_tools(self, config: Any) -> Iterable[tuple[str, str]]:
        """The tools that a config names, after where it does: the agent must be granted them."""
        return ()

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """The JSON Schema of the config."""
        return config_schema(cls.Config)

    @classmethod
    def check_class(cls) -> None:
        """Raises TemplateInvalid for a class that cannot serve as a template."""
        if not has_slug(cls):
            raise TemplateInvalid("slug must be 1 to 63 of a-z, 0-9 and '-'.")
        parse_version(getattr(cls, "version", None))
        if not (isinstance(getattr(cls, "title", None), str) and cls.title):
            raise TemplateInvalid("title is missing.")
        unknown = sorted(set(cls.capabilities) - CAPABILITIES)
        if unknown:
            raise TemplateInvalid(f"Unknown capability {unknown[0]}; known: {', '.join(sorted(CAPABILITIES))}.")
        if not (isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel)):
            raise TemplateInvalid("Config must be a pydantic model.")
        if cls.Config.model_config.get("extra") != "forbid":
            raise TemplateInvalid('Config must forbid unknown fields: ConfigDict(extra="forbid").')
        if not isasyncgenfunction(cls.run):
            raise TemplateInvalid("run must be an async generator.")
        cls.config_schema()


def has_slug(cls: type[AgentTemplate]) -> bool:
    slug = getattr(cls, "slug", None)
    return isinstance(slug, str) and SLUG.fullmatch(slug) is not None
