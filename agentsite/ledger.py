"""Proves that runs, usage records and budgets agree."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from runs.models import FINISHED
from usage.models import UsageRecord
from usage.verification import Difference, differences, query

_STALE_HOLDS = """
    SELECT hold.id, hold.run_id, hold.amount, hold.created_at FROM budget_hold hold
    LEFT JOIN run ON run.tenant_id = hold.tenant_id AND run.id = hold.run_id
    WHERE hold.tenant_id = %(tenant)s AND hold.created_at < now() - interval '1 hour'
        AND (run.id IS NULL OR run.status = ANY (%(finished)s))
"""
# Runs that are older than the tenant's first record were made before calls were recorded.
_TOKENS = """
    SELECT run.id, run.prompt_tokens, run.completion_tokens, coalesce(paid.input, 0), coalesce(paid.output, 0)
    FROM run LEFT JOIN (
        SELECT run_id, sum(input_tokens) AS input, sum(output_tokens) AS output
        FROM usage_record WHERE tenant_id = %(tenant)s GROUP BY run_id
    ) AS paid ON paid.run_id = run.id
    WHERE run.tenant_id = %(tenant)s AND run.status = ANY (%(finished)s)
        AND run.created_at >= %(since)s
        AND (run.prompt_tokens, run.completion_tokens) <> (coalesce(paid.input, 0), coalesce(paid.output, 0))
    ORDER BY run.created_at
"""


def _recorded_since(tenant_id: UUID) -> datetime | None:
    """A little before the first call; None without one."""
    first = UsageRecord.objects.filter(tenant_id=tenant_id).order_by("created_at").first()
    return first.created_at - timedelta(minutes=1) if first else None


def ledger_differences(tenant_id: UUID) -> Iterator[Difference]:
    """In the tenant's context."""
    yield from differences(tenant_id)
    given = {"tenant": tenant_id, "finished": list(FINISHED)}
    for id, run_id, amount, since in query(_STALE_HOLDS, **given):
        text = f"{amount.normalize():f} are held since {since:%Y-%m-%dT%H:%MZ} for the run {run_id}, which has ended"
        yield Difference("hold", id, text)
    for id, *tokens in query(_TOKENS, **given, since=_recorded_since(tenant_id)):
        text = "run {} has {} tokens in and {} out, its records {} and {}".format(id, *tokens)
        yield Difference("tokens", id, text)
