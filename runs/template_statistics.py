"""How the templates of a tenant do: agents, runs, failures and times, for each version and all together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count
from django.utils import timezone

from agents.models import Agent
from runs.selectors import seen_sql
from templates_app.exceptions import TemplateNotFound
from templates_app.registry import registry
from templates_app.versions import precedence
from tenants.permissions import authorize
from tenants.principal import Principal

MAX_DAYS = 92
# Reads the index run_statistics alone, where nobody is confined.
# Of runs that ended; those of a deleted agent name no version any more.
_RUNS = """
    SELECT version.template, version.template_version, count(*),
        count(*) FILTER (WHERE run.status IN ('failed', 'expired')),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
            ORDER BY 1000 * extract(epoch FROM run.finished_at - run.started_at)::float8
        ) FILTER (WHERE run.status = 'succeeded')
    FROM run
    JOIN agent_version AS version ON version.tenant_id = run.tenant_id AND version.id = run.agent_version_id
    WHERE run.tenant_id = %(tenant)s AND run.created_at >= %(since)s AND run.finished_at IS NOT NULL
        AND (%(template)s::text IS NULL OR version.template = %(template)s) {seen}
    GROUP BY GROUPING SETS ((version.template, version.template_version), (version.template))
"""


@dataclass(slots=True)
class Figures:
    """`agents` have it now; the rest is of runs that ended in the time. `p50` and `p95` are milliseconds from the start
    to the end of runs that succeeded, None without one.
    """

    agents: int = 0
    runs: int = 0
    failed: int = 0
    p50: float | None = None
    p95: float | None = None

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.runs if self.runs else None


@dataclass(slots=True)
class TemplateFigures:
    """`versions` are the ones that have agents or runs, the highest first."""

    total: Figures = field(default_factory=Figures)
    versions: dict[str, Figures] = field(default_factory=dict)


def template_statistics(*, actor: Principal, slug: str, days: int) -> TemplateFigures:
    """Of the last days and the runs that the actor may see, by two queries.

    Raises TemplateNotFound for a slug that neither server nor tenant knows.
    """
    authorize(actor, "template.view")
    authorize(actor, "run.view")
    found = _figures(actor, days, slug)
    if slug not in found and all(health.slug != slug for health in registry.health()):
        raise TemplateNotFound(f"No template with the slug '{slug}'.")
    return found.get(slug, TemplateFigures())


def all_template_statistics(*, actor: Principal, days: int) -> dict[str, TemplateFigures]:
    """By slug, of those that have agents or runs; by two queries."""
    authorize(actor, "template.view")
    authorize(actor, "run.view")
    return _figures(actor, days, None)


def _figures(actor: Principal, days: int, slug: str | None) -> dict[str, TemplateFigures]:
    found: dict[str, TemplateFigures] = {}
    for template, version, agents in _agents(actor.tenant_id, slug):
        _of(found, template, version).agents = agents
        found[template].total.agents += agents
    for template, version, runs, failed, times in _runs(actor, days, slug):
        figures = _of(found, template, version)
        figures.runs, figures.failed = runs, failed
        figures.p50, figures.p95 = times or (None, None)
    for each in found.values():
        each.versions = dict(sorted(each.versions.items(), key=lambda item: precedence(item[0]), reverse=True))
    return found


def _of(found: dict[str, TemplateFigures], template: str, version: str | None) -> Figures:
    of_template = found.setdefault(template, TemplateFigures())
    return of_template.total if version is None else of_template.versions.setdefault(version, Figures())


def _agents(tenant_id: UUID, slug: str | None) -> Iterable[tuple[str, str, int]]:
    agents = Agent.objects.filter(tenant_id=tenant_id).exclude(version=None).order_by()
    agents = agents.filter(version__template=slug) if slug else agents
    return agents.values_list("version__template", "version__template_version").annotate(count=Count("id"))


def _runs(actor: Principal, days: int, slug: str | None) -> list[Any]:
    seen, given = seen_sql(actor)
    given |= {"tenant": actor.tenant_id, "since": timezone.now() - timedelta(days=days), "template": slug}
    with connection.cursor() as cursor:
        cursor.execute(_RUNS.format(seen=seen), given)
        return list(cursor.fetchall())
