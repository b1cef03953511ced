"""Budgets: held before a call, settled after it, and never passed by calls that are made at once."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from tests.conftest import Actor
from tests.usage.conftest import CALL_COST, call, gpt
from usage import periods
from usage.budgets import Amount, Payer, bounds
from usage.exceptions import BudgetExceeded, PriceUnknown
from usage.models import Budget, BudgetHold, BudgetPeriod, UsageRecord
from usage.prices import Quote, Tokens
from usage.services.budgets import budget_delete, budget_recount, budget_update
from usage.services.spending import release, reserve, settle
from usage.tasks import notify

pytestmark = pytest.mark.django_db
NewBudget = Callable[..., Budget]


def hold(payer: Payer, usd: str | None = "0.5", tokens: int = 1000, number: int = 1) -> bool:
    amount = Amount(None if usd is None else Decimal(usd), tokens)
    return bool(reserve(payer=payer, call_id=call(payer, number).id, amount=amount, model="gpt-4o"))


def period() -> BudgetPeriod:
    return BudgetPeriod.objects.get()


def test_what_is_held_is_given_back_and_what_is_spent_stays(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(amount="1")
    assert hold(payer)
    assert (period().spent, period().reserved) == (0, Decimal("0.5"))
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    assert (period().spent, period().reserved) == (CALL_COST, 0)
    record = UsageRecord.objects.get()
    assert (record.cost, record.charge, record.certainty) == (CALL_COST, CALL_COST, "exact")
    assert record.prices["input"] == "2.5"
    assert not BudgetHold.objects.exists()


def test_a_call_is_paid_once(payer: Payer, new_budget: NewBudget) -> None:
    new_budget()
    for _ in range(2):
        settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    assert period().spent == CALL_COST
    assert UsageRecord.objects.count() == 1


def test_a_hard_budget_refuses_what_would_pass_it(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(amount="1")
    hold(payer, "0.6")
    with pytest.raises(BudgetExceeded) as caught, transaction.atomic():
        hold(payer, "0.5", number=2)
    error = caught.value
    assert (error.status, error.code) == (429, "budget_exceeded")
    _, ends = bounds("month", datetime.now(UTC))
    assert ends is not None
    assert f"{ends:%Y-%m-%dT%H:%M:%SZ}" in error.message
    assert error.retry_after == pytest.approx((ends - datetime.now(UTC)).total_seconds(), abs=5)
    assert period().reserved == Decimal("0.6")
    hold(payer, "0.4", number=2)


def test_a_refusal_by_one_budget_holds_nothing_of_another(payer: Payer, new_budget: NewBudget) -> None:
    new_budget("wide", amount="10")
    new_budget("narrow", scope="end_user", amount="0.1")
    with pytest.raises(BudgetExceeded, match="narrow.*of ada"), transaction.atomic():
        hold(payer)
    assert not BudgetHold.objects.exists()
    assert sum(row.reserved for row in BudgetPeriod.objects.all()) == 0


def test_a_soft_budget_counts_and_does_not_refuse(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(amount="0.01", hard=False)
    assert not hold(payer, "5")
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    assert period().spent == CALL_COST


@pytest.mark.parametrize("scope", [scope for scope, _ in Budget.Scope.choices if scope != "user"])
def test_each_scope_counts_its_own(payer: Payer, new_budget: NewBudget, scope: str) -> None:
    new_budget(scope=scope, amount="0.6")
    hold(payer)
    other = replace(payer, actor_id=uuid7(), end_user="bob", agent_id=uuid7(), session_id=uuid7(), run_id=uuid7())
    if scope == "tenant":
        with pytest.raises(BudgetExceeded), transaction.atomic():
            hold(other)
    else:
        assert hold(other)
        assert BudgetPeriod.objects.count() == 2


def test_a_budget_of_one_person_leaves_others_alone(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(scope="end_user", subject="bob", amount="0")
    assert not hold(payer, "5")


def test_tokens_can_be_capped_where_no_price_is_known(payer: Payer, new_budget: NewBudget) -> None:
    new_budget(unit="tokens", amount=2500, period="day")
    unknown = Quote(None, "unknown")
    hold(payer, None, 2000)
    settle(tenant_id=payer.tenant_id, calls=[call(payer, quote=unknown)])
    assert period().spent == 2000
    record = UsageRecord.objects.get()
    assert (record.cost, record.charge, record.certainty, record.prices) == (None, None, "unknown", None)


def test_money_is_not_spent_on_what_has_no_price(payer: Payer, new_budget: NewBudget) -> None:
    new_budget()
    with pytest.raises(PriceUnknown, match="gpt-4o.*v1/prices"):
        hold(payer, None)


def test_a_new_budget_knows_what_was_spent_before(payer: Payer, new_budget: NewBudget) -> None:
    last_month = bounds("month", datetime.now(UTC))[0] - timedelta(seconds=1)
    settle(tenant_id=payer.tenant_id, calls=[call(payer), call(payer, 2, began=last_month)])
    new_budget(amount="0.02")
    with pytest.raises(BudgetExceeded), transaction.atomic():
        hold(payer, "0.01")
    assert hold(payer, "0.005")
    assert period().spent == CALL_COST


def test_what_a_lost_run_held_is_free_again(payer: Payer, new_budget: NewBudget) -> None:
    new_budget()
    hold(payer, number=1)
    hold(payer, number=2)
    release(tenant_id=payer.tenant_id, run_id=uuid7())
    assert period().reserved == 1
    assert payer.run_id is not None
    release(tenant_id=payer.tenant_id, run_id=payer.run_id)
    assert period().reserved == 0


def test_more_may_be_held_for_the_same_call(payer: Payer, new_budget: NewBudget) -> None:
    new_budget()
    hold(payer, "0.3")
    hold(payer, "0.3")
    assert BudgetHold.objects.get().amount == Decimal("0.6")
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    assert period().reserved == 0


def test_another_amount_holds_at_once(payer: Payer, new_budget: NewBudget, owner: Actor) -> None:
    new_budget(amount="0.1")
    with pytest.raises(BudgetExceeded), transaction.atomic():
        hold(payer)
    budget_update(actor=owner.principal, ref="cap", changes={"amount": "2"})
    assert hold(payer)


def test_a_deleted_budget_refuses_nobody(payer: Payer, new_budget: NewBudget, owner: Actor) -> None:
    new_budget(amount="0.6")
    hold(payer)
    hold(payer, "0")  # now the process knows the period
    budget_delete(actor=owner.principal, ref="cap")
    assert not hold(payer, "5")
    settle(tenant_id=payer.tenant_id, calls=[call(payer)], run_id=payer.run_id)
    assert not BudgetPeriod.objects.exists()


def test_a_cached_answer_costs_nothing_and_says_what_it_saved(payer: Payer, new_budget: NewBudget) -> None:
    new_budget()
    settle(tenant_id=payer.tenant_id, calls=[call(payer, cached=True)])
    record = UsageRecord.objects.get()
    assert (record.cost, record.charge, record.saved) == (0, 0, CALL_COST)
    assert period().spent == 0


def test_a_share_is_told_once(payer: Payer, new_budget: NewBudget, mailoutbox: Any) -> None:
    budget = new_budget(amount="0.05", notify_at=[20, 50, 100], notify_emails=["boss@example.com"])
    for number in range(1, 5):
        settle(tenant_id=payer.tenant_id, calls=[call(payer, number)])
    told = AuditEvent.objects.filter(action="budget.reached").order_by("created_at", "id")
    assert [event.after["percent"] for event in told] == [20, 50, 100]
    assert period().notified_at == 100
    notify(budget_id=str(budget.id), subject="", percent=50)
    assert [(mail.bcc, mail.subject) for mail in mailoutbox] == [(["boss@example.com"], "Budget cap: 50 % reached")]
    assert "0.05 usd for each month" in mailoutbox[0].body


def test_a_recount_mends_a_wrong_sum(payer: Payer, new_budget: NewBudget) -> None:
    budget = new_budget()
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    BudgetPeriod.objects.update(spent=7)
    assert budget_recount(budget) == 1
    assert period().spent == CALL_COST
    assert budget_recount(budget) == 0


def test_nobody_counts_in_another_tenant(payer: Payer, new_budget: NewBudget, stranger: Actor) -> None:
    new_budget(amount="0")
    there = Payer(stranger.tenant.id, "api_key", stranger.principal.id, "stranger", run_id=uuid7())
    with tenant_context(stranger.tenant.id):
        assert not hold(there, "5")
        settle(tenant_id=there.tenant_id, calls=[call(there)])
        assert UsageRecord.objects.count() == 1
    assert UsageRecord.objects.count() == 0


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_calls_made_at_once_never_pass_the_cap(payer: Payer, new_budget: NewBudget) -> None:
    """Room for ten of forty; each thread has its own connection, and each transaction takes both budgets."""
    new_budget("a", amount="1")
    new_budget("b", scope="api_key", amount="1.05")
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def spend() -> None:
        start.wait()
        for _ in range(5):
            mine = replace(payer, run_id=uuid7())
            try:
                with tenant_context(payer.tenant_id), transaction.atomic():
                    hold(mine, "0.1")
                outcomes.append("held")
            except BudgetExceeded:
                outcomes.append("refused")
        connection.close()

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] * 10 + ["refused"] * 30
    assert [row.reserved for row in BudgetPeriod.objects.order_by("budget__slug")] == [1, 1]
    assert len(periods._known) == 2


def test_costs_of_cached_and_long_inputs(payer: Payer) -> None:
    quoted = gpt(payer)
    assert quoted.cost(Tokens(input=1000, output=100, cached=400)) == Decimal(
        "0.0030"
    )  # 600 x 2.5, 400 x 1.25, 100 x 10


def test_a_period_that_was_rolled_back_is_not_remembered(payer: Payer, new_budget: NewBudget) -> None:
    budget = new_budget("each", scope="end_user")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        settle(tenant_id=payer.tenant_id, calls=[call(payer, 1), call(payer, 2)])
        raise ZeroDivisionError
    assert not BudgetPeriod.objects.filter(budget=budget, subject="ada").exists()
    settle(tenant_id=payer.tenant_id, calls=[call(payer, 3)])
    assert BudgetPeriod.objects.get(budget=budget, subject="ada").spent == CALL_COST


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_one_call_may_be_settled_while_more_is_held_for_it(payer: Payer, new_budget: NewBudget) -> None:
    """Both lock the period before the hold, whichever comes first."""
    new_budget(amount="1000")
    faults: list[Exception] = []
    start = threading.Barrier(2)

    def work(step: Callable[[int], object]) -> None:
        start.wait()
        for number in range(1, 40):
            try:
                with tenant_context(payer.tenant_id), transaction.atomic():
                    step(number)
            except DatabaseError as error:
                faults.append(error)
        connection.close()

    def pay(number: int) -> None:
        settle(tenant_id=payer.tenant_id, calls=[call(payer, number)])

    threads = [
        threading.Thread(target=work, args=[lambda number: hold(payer, "0.1", number=number)]),
        threading.Thread(target=work, args=[pay]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    release(tenant_id=payer.tenant_id, run_id=payer.run_id or uuid7())
    assert (period().reserved, period().spent) == (0, 39 * CALL_COST)
