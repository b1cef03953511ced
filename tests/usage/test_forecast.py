"""The month's forecast on histories whose end is known, by itself and from records."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.conftest import Actor
from tests.usage.conftest import CALL_COST, call
from usage.budgets import Payer
from usage.forecast import LEAST_DAYS, History, forecast, reached_on
from usage.models import Budget
from usage.outlook import Outlook, budget_outlook
from usage.services.spending import settle

FIRST = date(2026, 1, 1)
Day = Callable[[date, random.Random], float]


def flat(day: date, chance: random.Random) -> float:
    return 100


def office(day: date, chance: random.Random) -> float:
    return 120 if day.weekday() < 5 else 10


def noisy(day: date, chance: random.Random) -> float:
    return office(day, chance) * chance.lognormvariate(0, 0.2)


def growing(day: date, chance: random.Random) -> float:
    return noisy(day, chance) * 1.03 ** ((day - FIRST).days / 7)


def lumpy(day: date, chance: random.Random) -> float:
    return chance.lognormvariate(3.5, 1.3)


def made(kind: Day, until: datetime, *, first: date = FIRST, seed: int = 1) -> tuple[History, float]:
    """What is known at a time, and what the month will have been."""
    chance = random.Random(seed)
    end = (until.replace(day=1) + timedelta(days=32)).date().replace(day=1)
    spent = {day: kind(day, chance) for day in (first + timedelta(days=n) for n in range((end - first).days))}
    today = until.date()
    share = (until - until.replace(hour=0, minute=0)) / timedelta(days=1)
    days = [value for day, value in spent.items() if day < today]
    month = sum(value for day, value in spent.items() if day >= today.replace(day=1))
    return History(first, days, spent[today] * share, until), month


def noon(month: int, day: int) -> datetime:
    return datetime(2026, month, day, 12, tzinfo=UTC)


@pytest.mark.parametrize("day", [1, 2, 10, 20, 31])
@pytest.mark.parametrize("kind", [flat, office])
def test_what_repeats_is_foretold_exactly(kind: Day, day: int) -> None:
    history, month = made(kind, noon(8, day))
    found = forecast(history)
    assert found is not None
    assert found.value == pytest.approx(month, rel=0.03)
    assert found.low <= month <= found.high
    assert found.mape == pytest.approx(0, abs=4)
    assert found.months == 6


@pytest.mark.parametrize(("kind", "most"), [(noisy, 0.05), (growing, 0.08), (lumpy, 0.3)])
def test_the_error_and_the_interval_are_what_they_say(kind: Day, most: float) -> None:
    errors, held, told = [], 0, []
    for seed in range(60):
        history, month = made(kind, noon(5, 3 + seed % 25), seed=seed)
        found = forecast(history)
        assert found is not None
        assert found.mape is not None
        errors.append(abs(found.value - month) / month)
        told.append(found.mape / 100)
        held += found.low <= month <= found.high
    mean = sum(errors) / len(errors)
    assert mean < most
    assert sum(told) / len(told) == pytest.approx(mean, rel=0.6)
    assert 0.65 < held / 60 < 0.97


def test_a_change_of_level_is_followed() -> None:
    history, _ = made(lambda day, _: 100 if day < date(2026, 6, 1) else 300, noon(6, 28))
    found = forecast(history)
    assert found is not None
    assert found.value == pytest.approx(300 * 30, rel=0.05)


def test_little_history() -> None:
    for days, known in ((LEAST_DAYS - 1, False), (LEAST_DAYS, True)):
        history, month = made(flat, noon(7, 10), first=date(2026, 7, 10) - timedelta(days=days))
        found = forecast(history)
        assert (found is not None) == known
    assert found is not None
    assert (found.mape, found.months) == (None, 0)
    assert found.value == pytest.approx(month)
    quiet = History(FIRST, [0.0] * 100, 0.0, noon(5, 1))
    assert forecast(quiet) is None


def test_days_before_the_first_spending_are_no_history() -> None:
    history, month = made(lambda day, _: 100 if day >= date(2026, 7, 5) else 0, noon(7, 12))
    found = forecast(history)
    assert found is not None
    assert found.value == pytest.approx(month)


def test_the_day_on_which_a_cap_is_reached() -> None:
    history, _ = made(flat, noon(7, 10))
    found = forecast(history)
    assert found is not None
    end = date(2026, 8, 1)
    for left, day in ((0, 10), (49, 10), (51, 11), (1049, 20), (2149, 31)):
        assert reached_on(history, found.expected, left, end) == date(2026, 7, day)
    assert reached_on(history, found.expected, 2151, end) is None


@pytest.mark.django_db
class TestBudgets:
    NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)

    @pytest.fixture
    def spent(self, payer: Payer, in_acme: object) -> None:
        """One call at each noon since March, two since July; each costs 0.0125 US dollars and 2,000 tokens."""
        day, number, calls = datetime(2026, 3, 1, 11, tzinfo=UTC), 0, []
        while day < self.NOW:
            for _ in range(1 if day.month < 7 else 2):
                number += 1
                calls.append(call(payer, number, began=day))
            day += timedelta(days=1)
        calls.append(call(payer, number + 1, began=self.NOW - timedelta(hours=1), cached=True))
        calls.append(
            call(replace(payer, end_user="bob", agent_id=None), number + 2, began=self.NOW - timedelta(hours=1))
        )
        settle(tenant_id=payer.tenant_id, calls=calls)

    def outlook(self, owner: Actor, budget: Budget, subject: str = "") -> Outlook:
        return budget_outlook(actor=owner.principal, budget=budget, subject=subject, now=self.NOW)

    def test_each_scope_looks_at_its_own(
        self, owner: Actor, payer: Payer, new_budget: Callable[..., Budget], spent: None
    ) -> None:
        all_of_it = self.outlook(owner, new_budget("all", amount=1))
        assert all_of_it.spent == 21 * CALL_COST
        assert all_of_it.forecast is not None
        assert all_of_it.forecast.months == 4
        ada = self.outlook(owner, new_budget("ada", scope="end_user"), "ada")
        agent = self.outlook(owner, new_budget("agent", scope="agent", subject=str(payer.agent_id)))
        assert ada.spent == agent.spent == 20 * CALL_COST
        assert ada.forecast == agent.forecast
        tokens = self.outlook(owner, new_budget("tokens", unit="tokens", amount=1000))
        assert tokens.spent == 21 * 2000

    def test_the_cap_of_a_month_and_of_all_time(
        self, owner: Actor, new_budget: Callable[..., Budget], spent: None
    ) -> None:
        month = self.outlook(owner, new_budget("month", amount=Decimal("0.35")))
        assert month.reached_on is not None
        assert date(2026, 7, 13) <= month.reached_on <= date(2026, 7, 16)
        assert self.outlook(owner, new_budget("wide", amount=100)).reached_on is None
        total = self.outlook(owner, new_budget("total", amount=Decimal("1.9"), period="total"))
        assert total.reached_on is not None
        assert total.reached_on > date(2026, 7, 10)
        assert self.outlook(owner, new_budget("day", amount=Decimal("0.01"), period="day")).reached_on is None
