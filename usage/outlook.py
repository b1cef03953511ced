"""Where a budget's month is heading."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from core.errors import InvalidRequest
from core.ids import parse_uuid
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.budgets import months
from usage.forecast import PAST_MONTHS, WINDOW, Forecast, History, forecast, next_month, reached_on
from usage.models import Budget, BudgetPeriod
from usage.totals import Query, totals

_FILTERED_BY = {
    Budget.Scope.USER: "user",
    Budget.Scope.API_KEY: "api_key",
    Budget.Scope.END_USER: "end_user",
    Budget.Scope.AGENT: "agent_id",
    Budget.Scope.SESSION: "session",
    Budget.Scope.RUN: "run",
}


@dataclass(frozen=True, slots=True)
class Outlook:
    """Of the month (UTC) that `spent` is of. `forecast` is None while too little is known.

    `reached_on` is the day of this month on which a budget for a month, or for ever, will be spent; None for others.
    """

    budget: Budget
    subject: str
    month: date
    spent: Decimal
    forecast: Forecast | None
    reached_on: date | None


def budget_outlook(*, actor: Principal, budget: Budget, subject: str = "", now: datetime | None = None) -> Outlook:
    """`subject` says of whom, for a budget of each one of many; InvalidRequest without it."""
    authorize(actor, "budget.view")
    subject = _subject(budget, subject)
    now = (now or datetime.now(UTC)).astimezone(UTC)
    by_day = _by_day(budget, subject, now)
    month = now.date().replace(day=1)
    spent = sum((value for day, value in by_day.items() if day >= month), Decimal(0))
    history = _history(by_day, now)
    found = forecast(history)
    return Outlook(budget, subject, month, spent, found, _reached_on(budget, subject, history, found, spent))


def _subject(budget: Budget, subject: str) -> str:
    if budget.sole_subject:
        return budget.subject
    if not subject:
        message = f"This budget counts each {budget.get_scope_display().lower()} for itself: say which one."
        raise InvalidRequest(message, code="required", param="subject")
    if budget.scope != Budget.Scope.END_USER and parse_uuid(subject) is None:
        raise InvalidRequest("The subject must be an id.", param="subject")
    return subject


def _by_day(budget: Budget, subject: str, now: datetime) -> dict[date, Decimal]:
    """What was spent on the days that a forecast and its past errors look at; a day without calls is missing."""
    *_, (oldest, _) = months(now, PAST_MONTHS)
    filters: dict[str, Any] = {"cached": False}
    if budget.scope != Budget.Scope.TENANT:
        by_id = budget.scope != Budget.Scope.END_USER
        filters[_FILTERED_BY[Budget.Scope(budget.scope)]] = UUID(subject) if by_id else subject
    rows = totals(budget.tenant_id, Query(oldest - timedelta(days=WINDOW), now, (), "day", filters))
    found = {}
    for row in rows:
        assert row.bucket is not None
        tokens = Decimal(row.sums.input_tokens + row.sums.output_tokens)
        found[row.bucket.astimezone(UTC).date()] = tokens if budget.unit == Budget.Unit.TOKENS else row.sums.charge
    return found


def _history(by_day: dict[date, Decimal], now: datetime) -> History:
    today = now.date()
    first = min(by_day, default=today)
    days = [float(by_day.get(first + timedelta(days=number), 0)) for number in range((today - first).days)]
    return History(first, days, float(by_day.get(today, 0)), now)


def _reached_on(budget: Budget, subject: str, history: History, found: Forecast | None, spent: Decimal) -> date | None:
    if found is None or budget.period not in (Budget.Period.MONTH, Budget.Period.TOTAL):
        return None
    if budget.period == Budget.Period.TOTAL:
        periods = BudgetPeriod.objects.filter(tenant_id=budget.tenant_id, budget_id=budget.id, subject=subject)
        spent = periods.values_list("spent", flat=True).first() or Decimal(0)
    return reached_on(history, found.expected, float(budget.amount - spent), next_month(history.now.date()))
