from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from core.net import AddressRefused, split_url
from core.validation import CheckedTogether, Found
from toolsets.base import LearningKind, Tool, ToolCallContext, ToolsetConfig
from toolsets.kinds.http.operations import HEADER
from toolsets.kinds.http.toolset import UNFIT
from toolsets.kinds.mcp.calls import Caller
from toolsets.kinds.mcp.learning import is_ours, learned_by
from toolsets.kinds.mcp.tools import made_of
from toolsets.places import private_places

MAX_URL = 500
STDIO = (
    "Programs are not started here (stdio): give the url of an MCP server that speaks streamable HTTP, "
    "or put a bridge before this one."
)
OURS = frozenset({"mcp-session-id", "mcp-protocol-version", "last-event-id"})


def _refuse_program(value: Any) -> None:
    raise ValueError(STDIO)


def _checked_url(url: Any) -> Any:
    """Where it leads is seen at each call."""
    if not isinstance(url, str):
        return url
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(STDIO)
    try:
        parts = split_url(url, MAX_URL)
    except AddressRefused as error:
        raise ValueError(error.message) from None
    if parts.username is not None or parts.fragment:
        raise ValueError("The URL must not hold a user name or a fragment.")
    return url


Program = SkipJsonSchema[Annotated[None, BeforeValidator(_refuse_program)]]


class McpConfig(CheckedTogether, ToolsetConfig):
    url: Annotated[str, BeforeValidator(_checked_url)] = Field(
        title="Address",
        description="Of the server's MCP endpoint (streamable HTTP), such as https://mcp.example.com/mcp.",
    )
    auth: Literal["none", "bearer", "header"] = Field(
        "none",
        title="Authentication",
        description="How the secret `token` goes out: not at all, as a bearer token, or in the header named below.",
    )
    auth_name: str = Field("", max_length=100, title="Header", description="Such as X-API-Key, for header only.")
    credentials: Literal["shared", "personal"] = Field(
        "shared",
        title="Whose credentials",
        description="`shared`: calls use the toolset's secret. `personal`: they use that of the person that the run is "
        "for; the toolset's own is then used to learn of the tools only.",
    )
    timeout: int = Field(60, ge=1, le=300, title="Timeout", description="Seconds for a call.")
    max_answer_kb: int = Field(
        1000,
        ge=1,
        le=10_000,
        title="Largest answer",
        description="KB that are read; the policy says how much is shown.",
    )
    resources: bool = Field(True, title="Resources", description="Offer tools that list and read them.")
    prompts: bool = Field(False, title="Prompts", description="Offer tools that list and get them.")
    trust_annotations: bool = Field(
        False,
        title="Trust its annotations",
        description="What the server says to be read-only or idempotent may be done again; what it says to be "
        "destructive needs a person's approval.",
    )
    command: Program = None
    args: Program = None
    env: Program = None

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        auth, name = data.get("auth", "none"), data.get("auth_name", "")
        if auth in ("none", "bearer") and name:
            yield ("auth_name",), "invalid", "Only the authentication header has a name."
        fits = isinstance(name, str) and HEADER.fullmatch(name) and name.lower() not in UNFIT | OURS
        if auth == "header" and not fits:
            yield ("auth_name",), "invalid", "Name a header that can hold the secret."
        if auth == "none" and data.get("credentials") == "personal":
            yield ("credentials",), "invalid", "Personal credentials need an authentication: bearer or header."

    def caller(self) -> Caller:
        personal = self.credentials == "personal"
        return Caller(self.url, self.auth, self.auth_name, personal, self.timeout, self.max_answer_kb * 1000)


class McpToolset(LearningKind):
    slug = "mcp"
    title = "MCP server"
    description = "The tools of a server that speaks the Model Context Protocol over streamable HTTP."
    Config: ClassVar[type[McpConfig]] = McpConfig
    secrets: ClassVar[dict[str, str]] = {"token": "Token or key"}
    places: ClassVar[frozenset[str]] = frozenset({"url"})

    def server_faults(self, config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterator[Found]:
        return private_places(config, "url")

    def is_personal(self, config: Mapping[str, Any]) -> bool:
        return config.get("credentials") == "personal"

    async def learn(self, config: McpConfig, context: ToolCallContext) -> Any:
        """With the toolset's own secret, or without one where only persons have them."""
        return await learned_by(config.caller(), context, resources=config.resources, prompts=config.prompts)

    def left_out(self, learned: Any) -> list[str]:
        found = learned["left_out"] if is_ours(learned) else []
        return [f"{each['name'] or 'A tool'}: {each['why']}" for each in found]

    def learned_tools(self, config: McpConfig, learned: Any) -> Sequence[Tool]:
        return made_of(
            config.caller(),
            learned,
            resources=config.resources,
            prompts=config.prompts,
            trusted=config.trust_annotations,
        )
