"""Reads of agents; what belongs to another tenant is missing."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from agents.exceptions import AgentPaused, agent_not_found, version_not_found
from agents.models import Agent, AgentVersion
from core.ids import parse_uuid
from llm.exceptions import model_not_found
from llm.routing.routed import PREFIX as ROUTE
from tenants.permissions import authorize, is_allowed
from tenants.principal import Principal
from toolsets.models import Toolset

READER = "llm"  # the kind of toolset whose config names a model
MAX_DESCRIPTION = 500  # characters that other agents' models are shown


def agent_list(*, actor: Principal, q: str = "", status: str = "", template: str = "") -> QuerySet[Agent]:
    """With their current versions; `q` searches slug and name."""
    authorize(actor, "agent.view")
    agents = Agent.objects.filter(tenant_id=actor.tenant_id).select_related("version")
    if q:
        agents = agents.filter(Q(slug__icontains=q) | Q(version__name__icontains=q))
    if status:
        agents = agents.filter(status=status)
    if template:
        agents = agents.filter(version__template=template)
    return agents


def by_ref(agents: QuerySet[Agent], ref: str) -> QuerySet[Agent]:
    """At most one: the agent with this id or slug."""
    key = parse_uuid(ref)
    return agents.filter(id=key) if key else agents.filter(slug=ref)


def agent_find(*, actor: Principal, ref: str) -> Agent | None:
    """By id or slug."""
    return by_ref(agent_list(actor=actor), ref).first()


def agent_get(*, actor: Principal, ref: str) -> Agent:
    """By id or slug, with its current version."""
    agent = agent_find(actor=actor, ref=ref)
    if agent is None:
        raise agent_not_found(ref)
    return agent


def agent_for_chat(*, actor: Principal, ref: str) -> Agent:
    """The agent that shall answer. A draft answers those who may edit it and is missing for others.

    Raises ModelNotFound, or AgentPaused. No permission is asked: `chat.run` is the caller's.
    """
    agents = Agent.objects.filter(tenant_id=actor.tenant_id).select_related("version")
    agent = by_ref(agents, ref).first()
    hidden = agent is not None and agent.status == Agent.Status.DRAFT and not is_allowed(actor, "agent.edit")
    if agent is None or agent.version is None or hidden:
        raise model_not_found(ref)
    if agent.status == Agent.Status.PAUSED:
        raise AgentPaused(f"The agent '{agent.slug}' is paused.", param="model")
    return agent


def version_list(*, actor: Principal, ref: str) -> QuerySet[AgentVersion]:
    """The versions of an agent, newest first."""
    agent = agent_get(actor=actor, ref=ref)
    return AgentVersion.objects.filter(tenant_id=actor.tenant_id, agent_id=agent.id)


def version_get(*, actor: Principal, ref: str, number: int) -> AgentVersion:
    version = version_list(actor=actor, ref=ref).filter(number=number).first()
    if version is None:
        raise version_not_found(ref, number)
    return version


def agents_described(tenant_id: UUID, slugs: Iterable[str]) -> dict[str, str]:
    """The names of those that exist, by slug; with the `description` of their metadata, where that is a text."""
    agents = Agent.objects.filter(tenant_id=tenant_id, slug__in=list(slugs)).exclude(version=None)
    found = agents.values_list("slug", "version__name", "version__metadata")
    return {slug: described(name, metadata) for slug, name, metadata in found}


def described(name: str, metadata: Mapping[str, Any]) -> str:
    """What other models are told of an agent, by the name and the metadata of its version."""
    description = metadata.get("description")
    return f"{name}. {description[:MAX_DESCRIPTION]}" if isinstance(description, str) and description else name


def agents_of_provider(tenant_id: UUID, slug: str) -> list[str]:
    """The agents whose current version answers with a model of the provider."""
    agents = Agent.objects.filter(tenant_id=tenant_id, version__model__startswith=f"{slug}/")
    return [f"the agent {agent}" for agent in agents.order_by("slug").values_list("slug", flat=True)]


def agents_of_route(tenant_id: UUID, slug: str) -> list[str]:
    """The agents whose current version answers by the route."""
    agents = Agent.objects.filter(tenant_id=tenant_id, version__model=f"{ROUTE}/{slug}")
    return [f"the agent {agent}" for agent in agents.order_by("slug").values_list("slug", flat=True)]


def agents_of_toolset(tenant_id: UUID, slug: str) -> list[str]:
    """The agents whose current version is granted the toolset."""
    agents = Agent.objects.filter(tenant_id=tenant_id, version__toolsets__contains=[slug])
    return [f"the agent {agent}" for agent in agents.order_by("slug").values_list("slug", flat=True)]


def readers_of_provider(tenant_id: UUID, slug: str) -> list[str]:
    """The toolsets that have texts read by a model of the provider."""
    return _readers(tenant_id, config__model__startswith=f"{slug}/")


def readers_of_route(tenant_id: UUID, slug: str) -> list[str]:
    """The toolsets that have texts read by the route."""
    return _readers(tenant_id, config__model=f"{ROUTE}/{slug}")


def _readers(tenant_id: UUID, **of: str) -> list[str]:
    toolsets = Toolset.objects.filter(tenant_id=tenant_id, kind=READER, **of).order_by("slug")
    return [f"the toolset {slug}" for slug in toolsets.values_list("slug", flat=True)]
