"""How the targets of a route have done, side by side; computed from the usage records."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.utils import timezone

from llm.models import Route
from llm.selectors.routes import route_get
from tenants.principal import Principal

MAX_DAYS = 92
_ROWS = """
    SELECT variant, provider, model, count(*), count(*) FILTER (WHERE error_code NOT IN ('', 'cancelled')),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_token_ms),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY total_ms) FILTER (WHERE error_code = ''),
        sum(cost), count(*) FILTER (WHERE cost IS NULL), sum(input_tokens), sum(output_tokens)
    FROM usage_record
    WHERE tenant_id = %s AND route = %s AND created_at >= %s AND created_at < %s AND NOT cached
    GROUP BY variant, provider, model ORDER BY variant, count(*) DESC, provider, model
"""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A model's calls for one variant. Times are milliseconds, at the median and the 95th percentile.

    `cost` is in US dollars, without the calls that are `unpriced`; `total_ms` is of calls that succeeded.
    """

    variant: str
    provider: str
    model: str
    calls: int
    failed: int
    first_token_ms: list[float | None]
    total_ms: list[float | None]
    cost: Decimal
    unpriced: int
    input_tokens: int
    output_tokens: int

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"

    @property
    def error_rate(self) -> float:
        return self.failed / self.calls

    @property
    def failed_percent(self) -> float:
        return 100 * self.error_rate


@dataclass(frozen=True, slots=True)
class Report:
    route: Route
    since: datetime
    until: datetime
    rows: list[ReportRow]


def route_report(*, actor: Principal, ref: str, days: int = 7) -> Report:
    """Of the last days. A fallback's calls in an A/B test count for the variant that was assigned."""
    route = route_get(actor=actor, ref=ref)
    until = timezone.now()
    since = until - timedelta(days=days)
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [actor.tenant_id, route.slug, since, until])
        rows = [_row(*found) for found in cursor.fetchall()]
    return Report(route, since, until, rows)


def _row(
    variant: str,
    provider: str,
    model: str,
    calls: int,
    failed: int,
    first_token: list[float | None] | None,
    total: list[float | None] | None,
    cost: Decimal | None,
    *counts: int,
) -> ReportRow:
    """The percentiles of nothing are none."""
    unknown: list[float | None] = [None, None]
    times = (first_token or unknown, total or unknown)
    return ReportRow(variant, provider, model, calls, failed, *times, cost or Decimal(0), *counts)
