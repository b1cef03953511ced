from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from agents.nesting import MAX_DEPTH
from agents.selectors import agents_described
from agents.tools.agents.asking import Ask, AskedAgent, Limits
from core.tenant import current_tenant
from core.validation import CheckedTogether, Found
from toolsets.base import Risk, Tool, ToolsetConfig, ToolsetKind

MAX_SLUG = 60  # with "ask_" before it, the longest name of a tool


Slug = Annotated[str, Field(max_length=MAX_SLUG, pattern=r"^[a-z0-9][a-z0-9-]*$")]


class AgentsConfig(CheckedTogether, ToolsetConfig):
    agents: list[Slug] = Field(
        min_length=1,
        max_length=20,
        title="Agents",
        description="Slugs of agents; each becomes a tool ask_<slug>.",
    )
    max_depth: int = Field(
        3,
        ge=1,
        le=MAX_DEPTH,
        title="Depth",
        description="How many agents may be asked one below the other; 1: those that are asked ask no others.",
    )
    max_calls: int = Field(
        20, ge=1, le=200, title="Calls in one run", description="Of all agents of the run, at any depth."
    )
    timeout: float = Field(120, ge=1, le=600, title="Timeout", description="Seconds for one answer.")

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        given = data.get("agents")
        named = given if isinstance(given, list) else []
        for index, slug in enumerate(named):
            if slug in named[:index]:
                yield ("agents", index), "duplicate", f"The agent '{slug}' is named twice."


class AgentsToolset(ToolsetKind):
    slug = "agents"
    title = "Other agents"
    description = "Asks other agents of the tenant, as part of the same run."
    Config: ClassVar[type[AgentsConfig]] = AgentsConfig

    def tools(self, config: AgentsConfig) -> Sequence[Tool]:
        return self.tools_of_each([config])[0]

    def tools_of_each(self, configs: Sequence[AgentsConfig]) -> list[Sequence[Tool]]:
        """One query, for the names: an agent that is missing now has a tool as well, which says so when called."""
        tenant_id = current_tenant()
        slugs = {slug for config in configs for slug in config.agents}
        described = agents_described(tenant_id, slugs) if tenant_id else {}
        return [_tools(config, described) for config in configs]


def _tools(config: AgentsConfig, described: Mapping[str, str]) -> list[Tool]:
    limits = Limits(config.max_depth, config.max_calls)
    return [_tool(slug, described.get(slug, slug), config.timeout, limits) for slug in config.agents]


def _tool(slug: str, described: str, timeout: float, limits: Limits) -> Tool:
    """Whatever the agent's own tools may do, it may do; what it says may come from anywhere."""
    text = f"Ask another agent, which knows nothing of this conversation: {described}"
    ask = AskedAgent(slug, limits).ask
    return Tool(f"ask_{slug}", text, Ask, ask, risk=Risk.WRITE, timeout=timeout, untrusted=True)
