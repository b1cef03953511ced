"""Reads of budgets, prices and usage records; what belongs to another tenant is missing."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.budgets import bounds
from usage.dimensions import DIMENSIONS, NAMED_ACTORS
from usage.models import Budget, BudgetPeriod, Price, UsageRecord

MOST_PERIODS = 20
_CURRENT = "current_rows"


def budget_list(*, actor: Principal, q: str = "", scope: str = "") -> QuerySet[Budget]:
    """`q` is searched in the slug."""
    authorize(actor, "budget.view")
    rows = Budget.objects.filter(tenant_id=actor.tenant_id)
    if q:
        rows = rows.filter(slug__icontains=q)
    return rows.filter(scope=scope) if scope else rows


def budget_get(*, actor: Principal, ref: str, lock: bool = False) -> Budget:
    """By id or slug."""
    rows = budget_list(actor=actor)
    if lock:
        rows = rows.select_for_update()
    budget_id = parse_uuid(ref)
    budget = rows.filter(id=budget_id).first() if budget_id else rows.filter(slug=ref).first()
    if budget is None:
        raise NotFound("No budget with this id or slug.")
    return budget


def period_list(*, actor: Principal, budget: Budget) -> QuerySet[BudgetPeriod]:
    """What was spent of a budget, period by period, the latest first."""
    authorize(actor, "budget.view")
    return BudgetPeriod.objects.filter(tenant_id=actor.tenant_id, budget_id=budget.id)


def with_current_periods(budgets: QuerySet[Budget], *, tenant_id: UUID) -> QuerySet[Budget]:
    """With what `current_periods` reads, by one query for all of them."""
    now = timezone.now()
    rows = BudgetPeriod.objects.filter(Q(ends_at=None) | Q(ends_at__gt=now), tenant_id=tenant_id, starts_at__lte=now)
    return budgets.prefetch_related(Prefetch("periods", rows.order_by("-spent", "id")[:MOST_PERIODS], to_attr=_CURRENT))


def current_periods(budget: Budget) -> list[BudgetPeriod]:
    """The periods under way, those with most spent first and no more than MOST_PERIODS.

    A budget of one subject always has one: before its first call it is not stored, and nothing is spent.
    """
    if not hasattr(budget, _CURRENT):
        rows = Budget.objects.filter(tenant_id=budget.tenant_id, id=budget.id)
        budget = with_current_periods(rows, tenant_id=budget.tenant_id).get()
    found: list[BudgetPeriod] = getattr(budget, _CURRENT)
    if found or not budget.sole_subject:
        return found
    starts, ends = bounds(budget.period, timezone.now())
    given = {"tenant_id": budget.tenant_id, "budget_id": budget.id, "subject": budget.subject}
    return [BudgetPeriod(**given, starts_at=starts, ends_at=ends)]


def price_list(*, actor: Principal, provider: str = "", model: str = "") -> QuerySet[Price]:
    authorize(actor, "price.view")
    rows = Price.objects.filter(tenant_id=actor.tenant_id)
    if provider:
        rows = rows.filter(provider=provider)
    return rows.filter(model=model) if model else rows


def price_get(*, actor: Principal, ref: str) -> Price:
    price = price_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if price is None:
        raise NotFound("No price with this id.")
    return price


def record_list(
    *, actor: Principal, start: datetime | None = None, end: datetime | None = None, **filters: Any
) -> QuerySet[UsageRecord]:
    """One row for each call of a provider, the latest first; `filters` as of a report's Query."""
    authorize(actor, "usage.view")
    rows = UsageRecord.objects.filter(tenant_id=actor.tenant_id)
    if start:
        rows = rows.filter(created_at__gte=start)
    if end:
        rows = rows.filter(created_at__lt=end)
    for name, value in filters.items():
        if name in NAMED_ACTORS:
            rows = rows.filter(actor_kind=name, actor_id=value)
        else:
            rows = rows.filter(**{DIMENSIONS[name].sql: value})
    return rows
