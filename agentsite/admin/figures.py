"""The overview's figures, added up by the database; each is one statement, and none reads a run's text.

They are of the runs that the actor may see.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from agents.models import Agent
from llm.models import Provider
from runs.models import Run
from runs.selectors import confine_runs, seen_sql
from tenants.models import ApiKey
from tenants.principal import Principal

HOURS = 24
SHOWN = 8

_LIVE = """
WITH spent AS (
    SELECT coalesce(sum(cost), 0) AS cost, count(*) - count(cost) AS unknown
    FROM usage_record WHERE tenant_id = %(tenant)s AND created_at >= %(since)s
)
SELECT (SELECT count(*) FROM run WHERE tenant_id = %(tenant)s AND status IN ('queued', 'running', 'waiting') {seen}),
       count(*), count(*) FILTER (WHERE status IN ('failed', 'expired')),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY first_token_ms),
       coalesce(sum(prompt_tokens + completion_tokens), 0),
       (SELECT cost FROM spent), (SELECT unknown FROM spent)
FROM run WHERE tenant_id = %(tenant)s AND created_at >= %(since)s {seen}
"""
_HOURLY = """
SELECT date_trunc('hour', created_at, 'UTC') AS hour, count(*) FILTER (WHERE status NOT IN ('failed', 'expired')),
       count(*) FILTER (WHERE status IN ('failed', 'expired')), coalesce(sum(prompt_tokens + completion_tokens), 0)
FROM run WHERE tenant_id = %(tenant)s AND created_at >= %(since)s {seen} GROUP BY 1
"""
_BUSIEST = """
SELECT agent.id, agent.slug, count(*), count(*) FILTER (WHERE run.status IN ('failed', 'expired'))
FROM run JOIN agent_version AS version ON version.tenant_id = run.tenant_id AND version.id = run.agent_version_id
JOIN agent ON agent.tenant_id = version.tenant_id AND agent.id = version.agent_id
WHERE run.tenant_id = %(tenant)s AND run.created_at >= %(since)s {seen}
GROUP BY agent.id, agent.slug ORDER BY 3 DESC, 2 LIMIT 6
"""


@dataclass(frozen=True)
class Live:
    """The last 24 hours but for `running`; `first_token_ms` is the median, None without a run.

    `cost` is in US dollars, without that of the calls whose price is `unknown`.
    """

    running: int
    runs: int
    failed: int
    first_token_ms: int | None
    tokens: int
    cost: Decimal
    unknown: int

    @property
    def failed_share(self) -> float:
        return 100 * self.failed / self.runs if self.runs else 0.0


@dataclass(frozen=True)
class Hour:
    start: datetime
    completed: int
    failed: int
    tokens: int


def _rows(sql: str, actor: Principal, since: datetime) -> list[Any]:
    seen, given = seen_sql(actor)
    with connection.cursor() as cursor:
        cursor.execute(sql.format(seen=seen), {**given, "tenant": actor.tenant_id, "since": since})
        return list(cursor.fetchall())


def live(actor: Principal) -> Live:
    return Live(*_rows(_LIVE, actor, timezone.now() - timedelta(hours=HOURS))[0])


def hourly(actor: Principal) -> list[Hour]:
    """The last 24 hours, this one included; one without runs is there with zeros."""
    this_hour = timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    first = this_hour - timedelta(hours=HOURS - 1)
    found = {row[0].astimezone(UTC): row[1:] for row in _rows(_HOURLY, actor, first)}
    starts = [first + timedelta(hours=offset) for offset in range(HOURS)]
    return [Hour(start, *found.get(start, (0, 0, 0))) for start in starts]


def busiest(actor: Principal) -> list[dict[str, Any]]:
    rows = _rows(_BUSIEST, actor, timezone.now() - timedelta(hours=HOURS))
    return [{"id": row[0], "slug": row[1], "runs": row[2], "failed": row[3]} for row in rows]


def last_failures(actor: Principal) -> QuerySet[Run]:
    rows = Run.objects.filter(tenant_id=actor.tenant_id, status=Run.Status.FAILED)
    rows = confine_runs(rows, actor=actor)
    return rows.select_related("agent_version__agent").order_by("-created_at")[:SHOWN]


def providers(tenant_id: UUID) -> QuerySet[Provider]:
    fields = ("id", "slug", "kind", "health", "health_message", "health_checked_at")
    return Provider.objects.filter(tenant_id=tenant_id).only(*fields)[:SHOWN]


@dataclass(frozen=True)
class Step:
    title: str
    help: str
    done: bool
    page: str
    permission: str


def first_steps(tenant_id: UUID) -> list[Step]:
    """What to do in a tenant that has answered nothing yet; empty once it has."""
    if Run.objects.filter(tenant_id=tenant_id).exists():
        return []
    provider = Provider.objects.filter(tenant_id=tenant_id).exists()
    agent = Agent.objects.filter(tenant_id=tenant_id, status=Agent.Status.ACTIVE).exists()
    key = ApiKey.objects.filter(tenant_id=tenant_id, revoked_at=None).exists()
    return [
        Step(
            "Add a provider", "Where the models are, with its API key.", provider, "llm_provider_add", "provider.edit"
        ),
        Step("Make an agent", "A template, a model and instructions.", agent, "agents_agent_add", "agent.edit"),
        Step("Try it", "Open the agent and talk to it.", False, "agents_agent_changelist", "agent.view"),
        Step("Issue an API key", "For your own programs.", key, "tenants_apikey_add", "api_key.edit"),
    ]
