"""Writes to budgets."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, models, transaction

from core import audit
from core.errors import Conflict, InvalidRequest
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.budgets import Share, forget_budgets
from usage.models import Budget, BudgetPeriod
from usage.periods import period_ids, recounted
from usage.selectors import budget_get
from usage.validation import BudgetChangeable, BudgetFields, as_json, checked

CHANGEABLE = tuple(BudgetChangeable.model_fields)
MAX_BUDGETS = 500  # of a tenant; those that apply are looked at before each call
FIXED = ("scope", "subject", "unit", "period")


@transaction.atomic
def budget_create(*, actor: Principal, **values: Any) -> Budget:
    """`values` as `usage.validation.BudgetFields`. What was spent in the period already counts.

    Raises InvalidRequest with every fault, Conflict when the slug is taken.
    """
    authorize(actor, "budget.edit")
    fields = checked(BudgetFields, values)
    if Budget.objects.filter(tenant_id=actor.tenant_id).count() >= MAX_BUDGETS:
        message = f"A tenant has at most {MAX_BUDGETS:,} budgets: delete one, or make one for each subject at once."
        raise InvalidRequest(message, code="too_many")
    budget = Budget(tenant_id=actor.tenant_id, **fields)
    _save(budget, force_insert=True)
    if budget.sole_subject:
        period_ids([Share(budget, budget.subject)], datetime.now(UTC))
    audit.record(actor=actor, action="budget.create", target=budget, after=as_json(fields))
    return budget


@transaction.atomic
def budget_update(*, actor: Principal, ref: str, changes: Mapping[str, Any]) -> Budget:
    """Change some of CHANGEABLE. Another amount takes effect at once, also for calls under way."""
    authorize(actor, "budget.edit")
    budget = budget_get(actor=actor, ref=ref, lock=True)
    for name in FIXED:
        if name in changes and changes[name] != getattr(budget, name):
            message = f"The {name} of a budget cannot change: make another budget."
            raise InvalidRequest(message, code="immutable", param=name)
    before = {name: getattr(budget, name) for name in CHANGEABLE}
    fixed = {name: getattr(budget, name) for name in FIXED}
    after = checked(BudgetFields, {**before, **changes, **fixed})
    changed = [name for name in CHANGEABLE if before[name] != after[name]]
    if not changed:
        return budget
    for name in changed:
        setattr(budget, name, after[name])
    _save(budget, update_fields=[*changed, "updated_at"])
    if "is_active" in changed and budget.is_active:
        budget_recount(budget)
    told = [as_json({name: values[name] for name in changed}) for values in (before, after)]
    audit.record(actor=actor, action="budget.update", target=budget, before=told[0], after=told[1])
    return budget


@transaction.atomic
def budget_delete(*, actor: Principal, ref: str) -> None:
    """With its periods; usage records stay."""
    authorize(actor, "budget.edit")
    budget = budget_get(actor=actor, ref=ref, lock=True)
    before = as_json({name: getattr(budget, name) for name in (*FIXED, *CHANGEABLE)})
    audit.record(actor=actor, action="budget.delete", target=budget, before=before)
    tenant_id = budget.tenant_id
    _lock_periods(budget)
    budget.delete()
    transaction.on_commit(lambda: forget_budgets(tenant_id))


def _lock_periods(budget: Budget) -> None:
    """Before their holds, as calls do; nobody holds more by them until they are gone."""
    rows = BudgetPeriod.objects.filter(tenant_id=budget.tenant_id, budget_id=budget.id).order_by("id")
    list(rows.select_for_update().values_list("id", flat=True))


def budget_recount(budget: Budget) -> int:
    """Make the spent sums of the periods under way what the records say; how many were wrong.

    Each in a transaction of its own where the caller has none, so that calls wait for one period at most.
    """
    now = datetime.now(UTC)
    rows = BudgetPeriod.objects.filter(tenant_id=budget.tenant_id, budget_id=budget.id)
    rows = rows.filter(models.Q(ends_at=None) | models.Q(ends_at__gt=now)).order_by("id")
    if budget.scope == Budget.Scope.RUN:
        rows = rows.filter(created_at__gt=now - timedelta(hours=2))
    return sum(_recount(budget, id) for id in list(rows.values_list("id", flat=True)))


@transaction.atomic
def _recount(budget: Budget, period_id: UUID) -> bool:
    rows = BudgetPeriod.objects.filter(tenant_id=budget.tenant_id, id=period_id)
    period = rows.select_for_update().first()
    spent = recounted(budget, period) if period else None
    if period is None or spent == period.spent:
        return False
    rows.update(spent=spent)
    return True


def _save(budget: Budget, **options: Any) -> None:
    tenant_id: UUID = budget.tenant_id
    try:
        with transaction.atomic():
            budget.save(**options)
    except IntegrityError:
        message = f"A budget with the slug '{budget.slug}' exists."
        raise Conflict(message, code="slug_taken", param="slug") from None
    transaction.on_commit(lambda: forget_budgets(tenant_id))


@transaction.atomic
def period_repair(*, actor: Principal, period_id: UUID) -> bool:
    """Make a period's sums what its records and holds say; False when they are already, or it is gone."""
    authorize(actor, "budget.edit")
    rows = BudgetPeriod.objects.filter(tenant_id=actor.tenant_id, id=period_id)
    period = rows.select_for_update(of=("self",)).select_related("budget").first()
    if period is None:
        return False
    held = period.holds.filter(tenant_id=actor.tenant_id).aggregate(amount=models.Sum("amount"))["amount"]
    before = {"spent": period.spent, "reserved": period.reserved}
    after = {"spent": recounted(period.budget, period), "reserved": held or Decimal(0)}
    if before == after:
        return False
    rows.update(**after)
    told = {"subject": period.subject, "starts_at": period.starts_at}
    audit.record(
        actor=actor,
        action="budget.recount",
        target=period.budget,
        before=as_json({**told, **before}),
        after=as_json({**told, **after}),
    )
    return True
