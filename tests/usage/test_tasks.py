"""Jobs on budgets, and the command that writes the list prices anew."""

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from audit.models import AuditEvent
from core.ids import uuid7
from tests.usage.conftest import CALL_COST, call
from usage import list_prices
from usage.budgets import Amount, Payer
from usage.management.commands import prices_update
from usage.models import Budget, BudgetPeriod
from usage.services.spending import reserve, settle
from usage.tasks import forget_run_periods, recount

NewBudget = Callable[..., Budget]
committed = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])


@committed
def test_a_budget_that_was_changed_is_counted_again(payer: Payer, new_budget: NewBudget) -> None:
    """As when another process settled a call and did not know of the budget yet."""
    budget = new_budget()
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    BudgetPeriod.objects.update(spent=0)
    recount()
    assert BudgetPeriod.objects.get().spent == 0  # too soon: somebody may not know of it yet
    Budget.objects.filter(id=budget.id).update(updated_at=timezone.now() - timedelta(seconds=30))
    recount()
    assert BudgetPeriod.objects.get().spent == CALL_COST
    assert AuditEvent.objects.get(action="budget.recount").after == {"periods": 1}


@committed
def test_what_single_runs_spent_is_forgotten_once_they_are_old(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(scope="run")
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    held = Payer(payer.tenant_id, "system", None, "x", run_id=uuid7())
    reserve(payer=held, call_id=uuid7(), amount=Amount(CALL_COST, 1), model="gpt-4o")
    forget_run_periods()
    assert BudgetPeriod.objects.count() == 2
    BudgetPeriod.objects.update(created_at=timezone.now() - timedelta(days=3))
    forget_run_periods()
    assert [period.subject for period in BudgetPeriod.objects.all()] == [str(held.run_id)]


def test_the_shipped_prices_are_those_of_the_locked_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails after an update of genai-prices: manage.py prices_update."""
    fresh = tmp_path / "prices.json"
    monkeypatch.setattr(prices_update, "DATA", fresh)
    out = io.StringIO()
    call_command("prices_update", stdout=out)
    assert fresh.read_text() == list_prices.DATA.read_text()
    assert "models of" in out.getvalue()
