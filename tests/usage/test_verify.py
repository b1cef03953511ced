"""`manage.py verify_usage` finds each kind of fault, and counts periods again when asked."""

import io
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from runs.models import Run
from tests.conftest import Actor
from tests.usage.conftest import call, gpt
from usage.budgets import Amount, Payer
from usage.models import Budget, BudgetHold, BudgetPeriod
from usage.prices import Quote, Tokens
from usage.services.spending import reserve, settle

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
NewBudget = Callable[..., Budget]


def verify(*arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines."""
    out = io.StringIO()
    try:
        call_command("verify_usage", *arguments, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def spoil(sql: str, *given: Any) -> None:
    """As nobody may who serves tenants."""
    with connections["ops"].cursor() as cursor:
        cursor.execute(sql, given)
        assert cursor.rowcount == 1


@pytest.fixture
def run(payer: Payer) -> Run:
    """A finished run with one paid and one cached call, under two budgets; everything adds up."""
    with tenant_context(payer.tenant_id):
        return Run.objects.create(
            id=payer.run_id,
            tenant_id=payer.tenant_id,
            model="openai/gpt-4o",
            status="succeeded",
            source="api",
            actor_kind="api_key",
            actor_label="x",
            prompt_tokens=2005,
            completion_tokens=2005,
        )


@pytest.fixture
def books(payer: Payer, run: Run, new_budget: NewBudget) -> None:
    new_budget("team")
    new_budget("each", scope="end_user", unit="tokens", amount=100_000, period="day")
    marked = Quote(gpt(payer).price, "own", Decimal("12.5"))
    odd = Tokens(input=777, output=33, cached=100, cache_write=50)
    calls = [
        call(payer, 1),
        call(payer, 2, cached=True),
        call(payer, 3, quote=Quote(None, "unknown"), tokens=Tokens(input=5, output=5)),
    ]
    settle(tenant_id=payer.tenant_id, calls=calls)
    elsewhere = Payer(payer.tenant_id, "user", uuid7(), "olga", end_user="bob", run_id=uuid7())
    settle(tenant_id=payer.tenant_id, calls=[call(elsewhere, 1, quote=marked, tokens=odd)])


@pytest.mark.usefixtures("books")
class TestBooks:
    def test_what_adds_up(self) -> None:
        assert verify() == (0, ["usage adds up"])
        assert verify("--tenant", "acme", "--repair") == (0, ["usage adds up"])

    def test_a_wrong_sum_is_found_and_counted_again(self, owner: Actor) -> None:
        BudgetPeriod.objects.filter(budget__slug="team").update(spent=7)
        BudgetPeriod.objects.filter(subject="bob").update(spent=1)
        code, lines = verify()
        assert code == 1
        assert sorted(line.split(" has ")[0].split(" from ")[0] for line in lines) == [
            "acme: budget each of bob",
            "acme: budget team",
        ]
        assert " has 7, its records 0.0" in lines[1]
        code, lines = verify("--repair")
        assert (code, len([line for line in lines if line.endswith("; counted again")])) == (0, 2)
        assert verify()[0] == 0
        event = AuditEvent.objects.filter(action="budget.recount").latest("created_at")
        assert event.actor_kind == "system"
        assert event.before is not None
        assert event.after is not None
        assert (event.before["spent"], event.after["reserved"]) in (("7.000000000000", "0"), ("1.000000000000", "0"))

    def test_a_wrong_hold_is_found_and_counted_again(self) -> None:
        BudgetPeriod.objects.filter(budget__slug="team").update(reserved=2)
        code, (line,) = verify()
        assert (code, line.endswith("holds 2, its calls 0")) == (1, True)
        assert verify("--repair")[0] == 0
        assert verify()[0] == 0

    @pytest.mark.parametrize("column", ["cost", "charge", "saved"])
    def test_a_wrong_cost_is_found(self, payer: Payer, column: str) -> None:
        spoil(f"UPDATE usage_record SET {column} = {column} + 0.000000000002 WHERE end_user = 'bob'")
        code, lines = verify("--repair")
        assert code == 1
        assert [line for line in lines if line.startswith("acme: record ")]

    def test_a_cost_without_a_price_is_found(self) -> None:
        spoil("UPDATE usage_record SET cost = 1 WHERE prices IS NULL")
        code, (line,) = verify()
        assert (code, "costs 1 and charges nothing known" in line) == (1, True)

    def test_a_record_that_is_missing_is_found(self, run: Run) -> None:
        spoil("DELETE FROM usage_record WHERE run_id = %s AND number = 1", run.id)
        code, lines = verify("--tenant", "acme")
        assert code == 1
        assert f"acme: run {run.id} has 2005 tokens in and 2005 out, its records 1005 and 1005" in lines
        assert len(lines) == 3

    def test_a_runs_wrong_tokens_are_found(self, run: Run) -> None:
        Run.objects.filter(id=run.id).update(completion_tokens=1)
        assert verify() == (1, [f"acme: run {run.id} has 2005 tokens in and 1 out, its records 2005 and 2005"])

    @pytest.mark.parametrize(("status", "hours", "code"), [("running", 2, 0), ("failed", 2, 1), ("failed", 0, 0)])
    def test_what_is_held_for_a_run_that_has_ended(
        self, payer: Payer, run: Run, status: str, hours: int, code: int
    ) -> None:
        Run.objects.filter(id=run.id).update(status=status)
        reserve(payer=payer, call_id=uuid7(), amount=Amount(Decimal("0.5"), 100), model="gpt-4o")
        BudgetHold.objects.update(created_at=timezone.now() - timedelta(hours=hours))
        found, lines = verify()
        assert found == code
        assert all(f"for the run {run.id}, which has ended" in line for line in lines if code)

    def test_of_a_budget_that_is_off_nothing_is_counted(self, payer: Payer) -> None:
        Budget.objects.update(is_active=False)
        BudgetPeriod.objects.update(spent=0)
        assert verify()[0] == 0

    def test_each_tenant_is_looked_at(self, stranger: Actor) -> None:
        BudgetPeriod.objects.filter(budget__slug="team").update(spent=7)
        assert verify("--tenant", "globex") == (0, ["usage adds up"])
        assert verify()[0] == 1


def test_a_tenant_that_is_not_there(owner: Actor) -> None:
    with pytest.raises(CommandError, match="No tenant 'nobody'"):
        verify("--tenant", "nobody")
