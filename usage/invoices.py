"""The charge-back of a month: what a tenant used, by provider, model and agent, and what it is charged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from core.errors import InvalidRequest
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.budgets import bounds
from usage.models import Budget
from usage.totals import Query, Sums, Totals, summed, totals

MOST_LINES = 10_000  # of an answer
LINES = ("provider", "model", "agent")
Month = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Invoice:
    """Of a month in UTC; `final` once it is over."""

    start: datetime
    end: datetime
    lines: Sequence[Totals]

    @property
    def month(self) -> str:
        return f"{self.start:%Y-%m}"

    @property
    def final(self) -> bool:
        return self.end <= datetime.now(UTC)

    @property
    def total(self) -> Sums:
        return summed(self.lines)


def usage_invoice(*, actor: Principal, month: str) -> Invoice:
    """`month` as 2026-11, "" for this one. Raises InvalidRequest."""
    authorize(actor, "usage.view")
    found = invoice(actor.tenant_id, parse_month(month), limit=MOST_LINES + 1)
    if len(found.lines) > MOST_LINES:
        message = f"The month has more than {MOST_LINES:,} lines: ask /v1/usage for parts of it, as CSV."
        raise InvalidRequest(message, code="too_many_rows", param="month")
    return found


def invoice(tenant_id: UUID, month: Month, *, using: str = "default", limit: int | None = None) -> Invoice:
    start, end = month
    return Invoice(start, end, totals(tenant_id, Query(start, end, LINES, limit=limit), using=using))


def month_total(tenant_id: UUID, month: Month, *, using: str = "default") -> Sums:
    """What its invoice's lines are in all."""
    return summed(totals(tenant_id, Query(*month), using=using))


def month_of(at: datetime) -> Month:
    start, end = bounds(Budget.Period.MONTH, at)
    assert end is not None
    return start, end


def parse_month(text: str) -> Month:
    """Raises InvalidRequest."""
    try:
        return month_of(datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC) if text else datetime.now(UTC))
    except (ValueError, OverflowError):
        raise InvalidRequest("month must look like 2026-11.", param="month") from None
