"""Runs of one tenant that hold, settle and give back at once: none waits for another for ever, and no sum is lost."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.db import OperationalError, connection, transaction

from core.db.base import DatabaseWrapper
from core.ids import uuid7
from core.tenant import tenant_context
from llm import metering
from llm.metering import RunMeter
from tests.conftest import Actor
from tests.usage.conftest import call
from tests.usage.test_spending import hold
from usage import periods
from usage.budgets import Amount, Payer, bounds, shares
from usage.exceptions import BudgetExceeded
from usage.models import Budget, BudgetHold, BudgetPeriod, UsageRecord
from usage.services.budgets import budget_delete
from usage.services.spending import release, reserve, settle

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
NewBudget = Callable[..., Budget]


def at_once(payer: Payer, *works: Callable[[], object]) -> list[BaseException]:
    """What they raise; each has a thread, and so a connection, of its own."""
    faults: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            with tenant_context(payer.tenant_id):
                work()
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def test_a_run_goes_on_while_another_begins_a_period(
    payer: Payer, new_budget: NewBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one has settled by the month's period when the other has added the day's, and each needs both."""
    new_budget("month", amount="1000", period="total")
    new_budget("day", amount="1000", period="day")
    now = datetime.now(UTC)
    before = call(payer, began=bounds("day", now)[0] - timedelta(seconds=1))
    amount = Amount(Decimal("0.1"), 10)
    reserve(payer=payer, call_id=before.id, amount=amount, model="gpt-4o", at=before.began)
    BudgetPeriod.objects.filter(starts_at=bounds("day", now)[0]).delete()
    periods._known.clear()
    settled, added = threading.Event(), threading.Event()

    def held(*_: Any) -> None:
        settled.set()
        added.wait(0.5)
        hold(payer, "0.1", number=2)

    monkeypatch.setattr(metering, "hold", held)
    monkeypatch.setattr(RunMeter, "records", lambda *_: [before])
    meter: Any = RunMeter(payer, 1, capped=True)

    def begin() -> None:
        settled.wait(5)
        mine = replace(payer, run_id=uuid7())
        with transaction.atomic():
            periods.period_ids(shares(mine, hard=True), now)
            added.set()
            hold(mine, "0.1")

    assert at_once(payer, lambda: meter._next(MagicMock(), MagicMock(), None), begin) == []
    assert sorted(row.reserved for row in BudgetPeriod.objects.all()) == [0, Decimal("0.2"), Decimal("0.2")]


def test_a_budget_is_deleted_while_calls_hold_by_it(payer: Payer, new_budget: NewBudget, owner: Actor) -> None:
    new_budget(amount="1000")
    held, deleted = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            hold(payer, "0.1")
            held.set()
            deleted.wait(0.5)
        with transaction.atomic():
            settle(tenant_id=payer.tenant_id, calls=[call(payer)], run_id=payer.run_id)

    def delete() -> None:
        held.wait(5)
        budget_delete(actor=owner.principal, ref="cap")
        deleted.set()

    assert at_once(payer, work, delete) == []
    assert not BudgetPeriod.objects.exists()
    assert UsageRecord.objects.count() == 1


def test_what_was_held_is_known_though_the_commits_answer_was_lost(
    payer: Payer, new_budget: NewBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_budget(amount="1000")
    monkeypatch.setattr(metering, "hold", lambda *_: hold(payer, "0.1"))
    commit = DatabaseWrapper._commit

    def lost(self: DatabaseWrapper) -> None:
        commit(self)
        raise OperationalError("the connection is lost")

    meter: Any = RunMeter(payer, 1)
    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(DatabaseWrapper, "_commit", lost)
        meter._next(MagicMock(), MagicMock(), None)
    with transaction.atomic():
        settle(tenant_id=payer.tenant_id, calls=(), run_id=payer.run_id, held=meter.capped)
    assert not BudgetHold.objects.exists()


def test_the_sums_are_exact_in_the_end(payer: Payer, new_budget: NewBudget) -> None:
    new_budget("all", amount="3")
    new_budget("told", amount="1", hard=False)
    new_budget("each", scope="end_user", amount="2", period="day")
    new_budget("one", scope="run", amount="1")
    new_budget("tokens", unit="tokens", amount=10**9, scope="api_key", period="week")

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        for _ in range(8):
            mine = replace(payer, run_id=uuid7(), end_user=chance.choice(["ada", "bob"]))
            _spend(mine, chance)

    assert at_once(payer, *[lambda seed=seed: work(seed) for seed in range(6)]) == []  # type: ignore[misc]
    assert UsageRecord.objects.exists()
    assert not BudgetHold.objects.exists()
    for row in BudgetPeriod.objects.select_related("budget"):
        assert (row.reserved, row.spent) == (0, periods.recounted(row.budget, row))


def _spend(payer: Payer, chance: random.Random) -> None:
    assert payer.run_id is not None
    calls = [call(payer), call(payer, 2)]
    try:
        for _ in range(chance.choice([1, 2])):
            with transaction.atomic():
                hold(payer, "0.2")
        if chance.random() < 0.5:
            with transaction.atomic():
                settle(tenant_id=payer.tenant_id, calls=calls[:1])
                hold(payer, "0.1", number=2)
    except BudgetExceeded:
        pass
    with transaction.atomic():
        if chance.random() < 0.2:
            release(tenant_id=payer.tenant_id, run_id=payer.run_id)
        else:
            settle(tenant_id=payer.tenant_id, calls=calls, run_id=payer.run_id)
