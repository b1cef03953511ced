"""Reads of budgets, prices and usage records; what belongs to another tenant is missing."""

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.models import Budget, BudgetPeriod, Price, UsageRecord


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


def record_list(*, actor: Principal) -> QuerySet[UsageRecord]:
    """One row for each call of a provider, the latest first."""
    authorize(actor, "usage.view")
    return UsageRecord.objects.filter(tenant_id=actor.tenant_id)
