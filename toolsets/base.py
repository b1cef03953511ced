"""What a kind of toolset and a tool are."""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from core.validation import Found, config_schema
from tenants.principal import Principal
from toolsets.exceptions import ToolsetInvalid

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what OpenAI's API takes
MAX_LEARNED = 3_000_000  # bytes of JSON


class Risk(StrEnum):
    """What a tool may do, from harmless to grave."""

    READ = "read"
    WRITE = "write"
    EGRESS = "egress"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class ToolCallContext:
    """Whose call it is. `toolset` is the slug of the tool's toolset, `secrets` are that toolset's, by name; `call` is
    the id of the call's row.

    `person` is whom the run is for: `user:<id>` of a member, `end_user:<id>` of a caller's own user, empty for nobody.
    The secrets are that person's where the toolset says so.

    A secret may be used and never told: not in a result, an error or a log.
    """

    tenant_id: UUID
    run_id: UUID | None = None
    session_id: UUID | None = None
    toolset: str = ""
    call: UUID | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    person: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """`call` gets the validated arguments and answers text or JSON; it raises ToolError for an expected failure.

    `timeout` is in seconds. The name is unique within its toolset. `parallel`: it may run beside others of one
    model's turn. `untrusted`: its answer comes from outside, and may hold instructions of somebody else.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    call: Callable[[Any, ToolCallContext], Awaitable[Any]]
    risk: Risk = Risk.READ
    timeout: float = 30.0
    parallel: bool = True
    untrusted: bool = False
    approval: bool = False  # asks a person first, unless the toolset says otherwise
    repeatable: bool = False  # reaches outside and changes nothing there: another attempt of a run may make it again

    @property
    def once(self) -> bool:
        """Must not be made again while it is not known whether it was done."""
        return self.risk is not Risk.READ and not self.repeatable

    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
        return self.arguments.model_json_schema()


class ToolArguments(BaseModel):
    """The base of a tool's arguments. Models write "5" for 5 now and then: types are converted where that is safe."""

    model_config = ConfigDict(extra="forbid")


class ToolsetConfig(BaseModel):
    """The base of a kind's config: unknown fields are faults."""

    model_config = ConfigDict(extra="forbid")


class ToolsetKind(ABC):
    """One kind of toolset; stateless. `tools` must be cheap and open nothing: connections belong to the calls.

    `secrets` are what its calls may need, by name, with a title for people: they are stored encrypted, can be written
    and not read, and are given to each call by its context. `places` are the fields of the config that say where they
    go: with another place they must be given again. `reserved`: only agents may have it whose template names the kind
    in its `reserved_toolsets`.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    Config: ClassVar[type[BaseModel]] = ToolsetConfig
    secrets: ClassVar[Mapping[str, str]] = {}
    places: ClassVar[frozenset[str]] = frozenset()
    reserved: ClassVar[bool] = False

    @abstractmethod
    def tools(self, config: Any) -> Sequence[Tool]:
        """The tools of a toolset with this config, an instance of Config."""

    def tools_of_each(self, configs: Sequence[Any]) -> list[Sequence[Tool]]:
        """Those of several toolsets, each with its config; for a kind that reads for all of them at once."""
        return [self.tools(config) for config in configs]

    def is_personal(self, config: Mapping[str, Any]) -> bool:
        """Whether the calls of a toolset with this stored config use secrets of the person that a run is for."""
        return False

    def server_faults(self, config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterable[Found]:
        """What a config, be that right or wrong, lacks on this server or of the secrets that the toolset will have.

        None stands for a secret that is stored. Asked when a config or a secret is given; opens nothing.
        """
        return ()

    def warnings(self, configs: Sequence[Mapping[str, Any]], actor: Principal) -> list[list[Found]]:
        """What may keep toolsets with these configs from working, and can be put right elsewhere. Takes as many queries
        for many as for one.
        """
        return [[] for _ in configs]

    @classmethod
    def check_class(cls) -> None:
        """Raises ToolsetInvalid for a class that cannot serve as a kind."""
        if not (isinstance(getattr(cls, "slug", None), str) and SLUG.fullmatch(cls.slug)):
            raise ToolsetInvalid("slug must be 1 to 32 of a-z, 0-9, '-' and '_'.")
        if not (isinstance(getattr(cls, "title", None), str) and cls.title):
            raise ToolsetInvalid("title is missing.")
        if not (isinstance(cls.Config, type) and issubclass(cls.Config, BaseModel)):
            raise ToolsetInvalid("Config must be a pydantic model.")
        if cls.Config.model_config.get("extra") != "forbid":
            raise ToolsetInvalid('Config must forbid unknown fields: ConfigDict(extra="forbid").')
        config_schema(cls.Config)


class LearningKind(ToolsetKind):
    """A kind whose tools are known only after an outside server was asked.

    The server is asked after each change of the config or the secrets, from time to time, and when somebody wants it.
    What it answered is stored with the toolset, and stays while the server cannot be asked.
    """

    @abstractmethod
    async def learn(self, config: Any, context: ToolCallContext) -> Any:
        """Ask. JSON of at most MAX_LEARNED bytes, from which `learned_tools` makes the tools.

        Raises ToolError, whose message people are shown. Whatever is odd in the answer must be found here.
        """

    @abstractmethod
    def learned_tools(self, config: Any, learned: Any) -> Sequence[Tool]:
        """Cheap, and opens nothing. `learned` is what `learn` answered, perhaps to an older config or an older version
        of this class, and None before it was asked for the first time.
        """

    def tools(self, config: Any) -> Sequence[Tool]:
        return self.learned_tools(config, None)

    def left_out(self, learned: Any) -> list[str]:
        """What the server told of and is no tool, and why, for people; `learned` as in `learned_tools`."""
        return []

    def needs_learning(self, config: Any) -> bool:
        """Whether a toolset with this config has anybody to ask."""
        return True
