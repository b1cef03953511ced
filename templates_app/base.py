"""What an agent template is."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from inspect import isasyncgenfunction, ismethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from core.validation import SLUG, Found, config_schema
from templates_app.context import AgentContext, Published
from templates_app.events import Event
from templates_app.exceptions import TemplateInvalid
from templates_app.requirements import Requirements
from templates_app.versions import lowest_of_major, parse_version, precedence

ReadFile = Callable[[str, int], Awaitable[bytes]]  # of the tenant: a path, and after how many bytes one more is enough
MAX_DEPRECATED = 500  # characters
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

    `deprecated` says why no agent should use this version any more, and what instead. An agent may come to this version
    from one of the same major version with its config as it is; or, where `compatible_since` names one, from that one
    and all after it.
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
    deprecated: ClassVar[str] = ""
    compatible_since: ClassVar[str] = ""

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
    def named_tools(cls, config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """The tools that a config, be that right or wrong, names, after where it does: they must be granted."""
        return ()

    @classmethod
    def migrate_config(cls, from_version: str, config: dict[str, Any]) -> dict[str, Any]:
        """A lower version's config as this version takes it. Overridden, it is asked whichever version that is.

        Raises ConfigNotMigrated with the reason when it cannot; its result is then checked like any config.
        """
        return config

    @classmethod
    def requirements(cls, config: Any) -> Requirements:
        """What an agent with this config (an instance of Config) needs besides. Must be cheap and open nothing."""
        return Requirements()

    @classmethod
    def migrates(cls) -> bool:
        """Does this version turn the configs of others into its own?"""
        return getattr(cls.migrate_config, "__func__", None) is not _OFFERS_NOTHING

    @classmethod
    def compatible_from(cls) -> str:
        """The lowest version from which an agent comes to this one with its config as it is."""
        return cls.compatible_since or lowest_of_major(cls.version)

    @classmethod
    def takes_over(cls, from_version: str) -> bool:
        """Is this version a compatible upgrade of that one? Raises TemplateInvalid for what is no version."""
        return precedence(cls.compatible_from()) <= precedence(from_version) <= precedence(cls.version)

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
        if not (isinstance(cls.deprecated, str) and len(cls.deprecated) <= MAX_DEPRECATED):
            raise TemplateInvalid(f"deprecated must be a text of at most {MAX_DEPRECATED} characters.")
        if cls.compatible_since and precedence(cls.compatible_since) > precedence(cls.version):
            raise TemplateInvalid("compatible_since must not be above the version itself.")
        if not (ismethod(cls.migrate_config) and ismethod(cls.requirements)):
            raise TemplateInvalid("migrate_config and requirements must be class methods.")
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


_OFFERS_NOTHING = AgentTemplate.migrate_config.__func__  # type: ignore[attr-defined]


def has_slug(cls: type[AgentTemplate]) -> bool:
    slug = getattr(cls, "slug", None)
    return isinstance(slug, str) and SLUG.fullmatch(slug) is not None
