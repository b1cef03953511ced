"""A tenant's active agents as MCP tools."""

from typing import Annotated, Any

from django.db.models import QuerySet
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from agents.models import Agent, AgentVersion
from agents.selectors import agent_list, described
from core.errors import InvalidRequest
from core.validation import SLUG
from runs.openai_messages import PRINTABLE
from tenants.principal import Principal

PAGE = 50  # tools


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")
    message: Annotated[StrictStr, Field(min_length=1, description="What you say to the agent.")]
    session_id: Annotated[StrictStr, Field(pattern=PRINTABLE)] | None = Field(
        None, description="Continues the conversation of an earlier answer; without it a new one begins."
    )


class Answer(BaseModel):
    answer: str = Field(description="What the agent says.")
    session_id: str = Field(description="Give it with the next message to continue the conversation.")
    run_id: str
    answered_by: str | None = Field(None, description="The run whose answer hears this message, while it goes on.")


INPUT, OUTPUT = Arguments.model_json_schema(), Answer.model_json_schema()


def _active(actor: Principal) -> QuerySet[Agent]:
    return agent_list(actor=actor, status=Agent.Status.ACTIVE)


def tool_page(*, actor: Principal, cursor: str | None) -> dict[str, Any]:
    """The result of `tools/list`; a cursor is the last name of the page before."""
    if cursor is not None and not SLUG.fullmatch(cursor):
        raise InvalidRequest("cursor is not one that a list answered.", param="cursor")
    agents = list(_active(actor).filter(slug__gt=cursor or "").order_by("slug")[: PAGE + 1])
    tools = [_tool(agent.slug, agent.version) for agent in agents[:PAGE] if agent.version]
    return {"tools": tools, **({"nextCursor": agents[PAGE - 1].slug} if len(agents) > PAGE else {})}


def is_tool(*, actor: Principal, name: str) -> bool:
    return _active(actor).filter(slug=name).exists()


def _tool(slug: str, version: AgentVersion) -> dict[str, Any]:
    """The agent's own tools are what may change something; what it answers is a model's."""
    hints = {"readOnlyHint": False, "destructiveHint": bool(version.toolsets), "openWorldHint": True}
    return {
        "name": slug,
        "title": version.name,
        "description": described(version.name, version.metadata),
        "inputSchema": INPUT,
        "outputSchema": OUTPUT,
        "annotations": {"title": version.name, **hints},
    }
