"""Many agents go to another version of their template: each by itself, so that one that cannot holds up no other."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from agents.exceptions import agent_not_found
from agents.models import Agent
from agents.services import agent_migrate, values_of
from agents.upgrades import Upgrade, upgrade_of
from core.errors import ApplicationError, InvalidRequest, NotFound
from core.ids import parse_uuid
from templates_app.base import AgentTemplate
from templates_app.registry import registry
from templates_app.validation import fault
from templates_app.versions import precedence
from tenants.permissions import authorize
from tenants.principal import Principal

MAX_AGENTS = 500  # of one request


def agents_migrate(
    *,
    actor: Principal,
    template: str,
    to: str,
    from_version: str | None = None,
    agents: Sequence[str] | None = None,
    dry_run: bool = True,
    first: int = 0,
) -> list[Upgrade]:
    """What it would change, or with `dry_run` off has changed, of each agent: by default of all with a lower version,
    of which only so many are looked at as `first` says (0: all).

    Those that are refused stay as they are, and the others are migrated all the same. Raises TemplateNotFound for a
    version that is not in use, InvalidRequest for too many agents.
    """
    authorize(actor, "agent.view" if dry_run else "agent.edit")
    target = _target(template, to)
    found = _named(actor, agents) if agents is not None else _below(actor, target, from_version, first)
    return [_migrated(actor, ref, agent, target, from_version, dry_run) for ref, agent in found]


def _target(template: str, version: str) -> AgentTemplate:
    try:
        return registry.get(template, version)
    except NotFound as error:
        error.param = "to" if error.param == "template_version" else None
        raise


def _migrated(
    actor: Principal, ref: str, agent: Agent | None, to: AgentTemplate, from_version: str | None, dry_run: bool
) -> Upgrade:
    if agent is None or agent.version is None:
        error = agent_not_found(ref)
        return Upgrade(ref, {}, to.version, errors=[fault("agent", error.code, error.message)])
    values = values_of(agent)
    if from_version and values["template_version"] != from_version and values["template"] == to.slug:
        message = f"The agent has the version {values['template_version']}, not {from_version}."
        return Upgrade(agent.slug, values, to.version, errors=[fault("from", "other_version", message)])
    if dry_run:
        return upgrade_of(actor=actor, values=values, to=to)
    try:
        return agent_migrate(actor=actor, ref=str(agent.id), to=to)
    except ApplicationError as error:  # it was changed or deleted meanwhile
        return Upgrade(agent.slug, values, to.version, errors=[fault("agent", error.code, error.message)])


def _tenants(actor: Principal) -> QuerySet[Agent]:
    return Agent.objects.filter(tenant_id=actor.tenant_id).select_related("version").order_by("slug")


def _named(actor: Principal, refs: Sequence[str]) -> list[tuple[str, Agent | None]]:
    """In the order in which they were named, each once; None for what is not there. One query."""
    wanted = list(dict.fromkeys(refs))
    _refuse_many(len(wanted))
    ids = [key for ref in wanted if (key := parse_uuid(ref))]
    found: dict[Any, Agent] = {}
    for agent in _tenants(actor).filter(Q(slug__in=wanted) | Q(id__in=ids)):
        found |= {agent.slug: agent, agent.id: agent}
    return [(ref, found.get(parse_uuid(ref) or ref)) for ref in wanted]


def _below(actor: Principal, to: AgentTemplate, from_version: str | None, first: int) -> list[tuple[str, Agent | None]]:
    """Those with a lower version than `to`, or exactly with `from_version`. Two queries."""
    agents = _tenants(actor).filter(version__template=to.slug)
    if from_version:
        agents = agents.filter(version__template_version=from_version)
    rows: Iterator[tuple[Any, str]] = agents.values_list("id", "version__template_version").iterator()
    wanted = [id for id, version in rows if from_version or precedence(version) < precedence(to.version)]
    wanted = wanted[:first] if first else wanted
    _refuse_many(len(wanted))
    return [(agent.slug, agent) for agent in agents.filter(id__in=wanted)]


def _refuse_many(count: int) -> None:
    if count > MAX_AGENTS:
        message = f"These are {count} agents: name at most {MAX_AGENTS} of them in `agents`, and the others next."
        raise InvalidRequest(message, code="too_many", param="agents")
