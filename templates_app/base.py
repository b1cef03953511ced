"""What an agent template is."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from inspect import isasyncgenfunction
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from core.validation import SLUG, Found, config_schema
from templates_app.context import AgentContext, Published
from templates_app.events import Event
from templates_app.exceptions import TemplateInvalid
from templates_app.versions import parse_version

ReadFile = Callable[[str, int], Awaitable[bytes]]  # of the tenant: a path, and after how many bytes one more is enough
CAPABILITIES = frozenset({"tools", "client_tools", "history", "structured_output", "steps", "steering"})


class TemplateConfig(BaseModel):
    """The base of a template's config: unknown fields are faults."""

    model_config = ConfigDict(extra="forbid")


class AgentTemplate(ABC):
    """One way to answer; the class is stateless and one instance serves all agents and runs.

    `capabilities` say what it can use: `tools` (of granted toolsets), `client_tools` (of the caller), `history`,
    `structured_output` (the caller's response_format), `steps` (it tells its progress), `steering` (it hears
    what is said while it runs).

    `reserved_toolsets` are the reserved kinds that its agents may be granted, beside those that all may.
    """

    slug: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    framework: ClassVar[str] = "native"
    capabilities: ClassVar[frozenset[str]] = frozenset()
    reserved_toolsets: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[BaseModel]] = TemplateConfig
    publishes: ClassVar[bool] = False

    @abstractmethod
    def run(self, context: AgentContext) -> AsyncIterator[Event]:
        """An async generator that ends with exactly one Answer. Raises ApplicationError for a failure to show."""

    async def publish(self, config: Any, read: ReadFile) -> Published:
        """What a version of an agent pins, if the class `publishes`: found whenever a config is given, and never again.

        `read` raises InvalidRequest. Raises InvalidRequest with every fault, and what resolving raises.
        """
        raise NotImplementedError

    @classmethod
    def server_faults(cls, config: Mapping[str, Any]) -> list[Found]:
        """What this server lacks for a config, be that right or wrong: asked when it is given, and opens nothing."""
        return []

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
        if isinstance(cls.reserved_toolsets, str) or not all(isinstance(kind, str) for kind in cls.reserved_toolsets):
            raise TemplateInvalid("reserved_toolsets must be a set of kinds of toolsets.")
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
