"""Sums of usage: by dimensions and time, from records and from daily sums alike."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from core.ids import uuid7
from core.tenant import tenant_context
from tenants.models import Tenant
from tests.conftest import Actor
from tests.usage.conftest import CALL_COST, call, gpt
from usage.budgets import Payer
from usage.daily import roll_up
from usage.invoices import invoice, parse_month
from usage.models import UsageDay, UsageRecord
from usage.prices import Quote, Tokens
from usage.services.spending import settle
from usage.tasks import roll_up_days
from usage.totals import Query, Totals, summed, totals

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("in_acme")]
NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)
MONTH = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
Pay = Callable[..., None]


@pytest.fixture
def pay(payer: Payer) -> Pay:
    def one(number: int = 1, began: datetime = NOW, payer: Payer = payer, **fields: Any) -> None:
        settle(tenant_id=payer.tenant_id, calls=[call(payer, number, began=began, **fields)])

    return one


def month(tenant: Tenant, *group_by: str, **query: Any) -> list[Totals]:
    return totals(tenant.id, Query(*MONTH, group_by, **query))


def test_nothing_was_used(acme: Tenant) -> None:
    assert month(acme) == []
    assert summed([]).calls == 0


def test_sums_of_two_dimensions(acme: Tenant, payer: Payer, pay: Pay) -> None:
    pay(1)
    pay(2, tokens=Tokens(input=500, output=20, cached=100, reasoning=5), total_ms=9, first_token_ms=4)
    pay(3, model="gpt-4o-mini", told={"error_code": "provider_timeout"})
    pay(4, payer=replace(payer, agent="other"), quote=Quote(None, "unknown"))
    found = {tuple(row.dims.values()): row for row in month(acme, "model", "agent")}
    assert {key: row.sums.calls for key, row in found.items()} == {
        ("gpt-4o", "helper"): 2,
        ("gpt-4o-mini", "helper"): 1,
        ("gpt-4o", "other"): 1,
    }
    helper = found["gpt-4o", "helper"]
    assert helper.sums[4:8] == (1500, 1020, 100, 5)
    assert helper.sums.cost == CALL_COST + Decimal("0.001325")
    assert (helper.first_token_ms, helper.total_ms) == ((4, 4), (0, 9))
    assert found["gpt-4o-mini", "helper"].sums.failed == 1
    assert found["gpt-4o", "other"].sums.unknown == 1
    assert found["gpt-4o", "other"].sums.cost == 0
    assert summed(list(found.values())) == month(acme)[0].sums


def test_a_mark_up_is_charged_and_not_a_cost(acme: Tenant, payer: Payer, pay: Pay) -> None:
    pay(quote=replace(gpt(payer), markup_percent=Decimal(20)))
    (row,) = month(acme)
    assert (row.sums.cost, row.sums.charge) == (CALL_COST, CALL_COST * Decimal("1.2"))


def test_the_cache_saves_and_its_answers_take_no_time(acme: Tenant, pay: Pay) -> None:
    pay(1, total_ms=800, first_token_ms=300)
    pay(2, cached=True, total_ms=1, first_token_ms=1)
    (row,) = month(acme)
    assert (row.sums.hits, row.sums.hit_rate, row.sums.saved) == (1, 0.5, CALL_COST)
    assert (row.sums.cost, row.total_ms, row.first_token_ms) == (CALL_COST, (800, 800), (300, 300))


def test_a_shared_answer_is_no_hit_of_the_cache(acme: Tenant, pay: Pay) -> None:
    pay(1)
    pay(2, cached=True)
    pay(3, cached=True, told={"reason": "joined: an identical call was under way"})
    from_records = month(acme)
    assert (from_records[0].sums.hits, from_records[0].sums.saved) == (1, CALL_COST)
    roll_up(acme.id, NOW + timedelta(days=1))
    assert UsageDay.objects.filter(cached=True).values_list("calls", "hits").get() == (2, 1)
    assert month(acme) == from_records


def test_percentiles(acme: Tenant, pay: Pay) -> None:
    for number in range(1, 21):
        pay(number, total_ms=number * 10, first_token_ms=None)
    (row,) = month(acme)
    assert (row.total_ms, row.first_token_ms) == ((100, 190), (None, None))


@pytest.mark.parametrize(
    ("bucket", "begins"),
    [
        ("hour", ["2026-11-15T23:00", "2026-11-16T00:00", "2026-11-18T15:00"]),
        ("day", ["2026-11-15T00:00", "2026-11-16T00:00", "2026-11-18T00:00"]),
        ("week", ["2026-11-09T00:00", "2026-11-16T00:00"]),
        ("month", ["2026-11-01T00:00"]),
    ],
)
def test_buckets_begin_in_utc(acme: Tenant, pay: Pay, bucket: str, begins: list[str]) -> None:
    sunday = datetime(2026, 11, 15, 23, 59, tzinfo=UTC)
    for number, began in enumerate([sunday, sunday + timedelta(minutes=1), NOW], 1):
        pay(number, began=began)
    assert [f"{row.bucket:%Y-%m-%dT%H:%M}" for row in month(acme, bucket=bucket)] == begins


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "gpt-4o-mini"),
        ("agent", ""),
        ("end_user", "bob"),
        ("cached", True),
        ("error_code", "x"),
        ("route", "r"),
    ],
)
def test_filters(acme: Tenant, payer: Payer, pay: Pay, name: str, value: Any) -> None:
    pay(1)
    odd = replace(payer, agent="", end_user="bob")
    pay(2, payer=odd, model="gpt-4o-mini", cached=True, told={"error_code": "x", "route": "r"})
    (row,) = month(acme, "model", filters={name: value})
    assert (row.dims, row.sums.calls) == ({"model": "gpt-4o-mini"}, 1)


def test_people_and_keys_are_named(acme: Tenant, payer: Payer, pay: Pay) -> None:
    person = replace(payer, actor_kind="user", actor_id=uuid7(), actor_label="Olga")
    pay(1)
    pay(2, payer=person)
    found = {row.dims["user"]: row.names for row in month(acme, "user")}
    assert found == {None: {}, person.actor_id: {"user": "Olga"}}


def many(payer: Payer, pay: Pay) -> None:
    """Three days of calls that differ in everything that daily sums keep apart."""
    for number in range(1, 31):
        pay(
            number,
            began=NOW - timedelta(hours=2 * number),
            payer=replace(payer, agent=f"agent-{number % 3}", agent_version=number % 2 + 1),
            model=f"gpt-4o{'-mini' if number % 4 else ''}",
            cached=number % 5 == 0,
            total_ms=number * 7,
            first_token_ms=number,
            told={"error_code": "x" if number % 7 == 0 else "", "route": f"r{number % 2}"},
        )


QUERIES: list[dict[str, Any]] = [
    {},
    {"group_by": ("model", "agent"), "bucket": "day"},
    {"group_by": ("route",), "bucket": "week", "filters": {"cached": False}},
    {"group_by": ("api_key", "agent_version")},
    {"group_by": ("error_code", "cached"), "bucket": "month"},
    {"group_by": ("end_user",)},
    {"bucket": "hour"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_daily_sums_change_no_answer(acme: Tenant, payer: Payer, pay: Pay, query: dict[str, Any]) -> None:
    many(payer, pay)
    uneven = (NOW - timedelta(hours=50, minutes=7), NOW)
    before = [totals(acme.id, Query(*time, **query)) for time in (MONTH, uneven)]
    roll_up(acme.id, NOW + timedelta(days=1))
    assert UsageDay.objects.values("day").distinct().count() == 3
    assert [totals(acme.id, Query(*time, **query)) for time in (MONTH, uneven)] == before


def test_daily_sums_are_read_instead_of_records(acme: Tenant, payer: Payer, pay: Pay) -> None:
    pay(began=NOW - timedelta(days=1))
    roll_up(acme.id, NOW + timedelta(days=1))
    UsageDay.objects.update(cost=7)
    assert month(acme)[0].sums.cost == 7


def test_a_late_record_counts_at_once(acme: Tenant, payer: Payer, pay: Pay) -> None:
    pay(1, began=NOW - timedelta(days=1))
    roll_up(acme.id, NOW + timedelta(days=1))
    pay(2, began=NOW - timedelta(days=1))
    assert month(acme)[0].sums.calls == 2
    roll_up(acme.id, NOW + timedelta(days=1))
    assert UsageDay.objects.get().calls == 2
    roll_up(acme.id, NOW + timedelta(days=1))
    assert month(acme)[0].sums.calls == 2


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_the_worker_adds_up_every_tenants_days_but_today(payer: Payer, stranger: Actor, pay: Pay) -> None:
    now = datetime.now(UTC)
    pay(1, began=now)
    pay(2, began=now - timedelta(days=1))
    pay(3, began=now - timedelta(days=41))
    there = replace(payer, tenant_id=stranger.tenant.id)
    with tenant_context(there.tenant_id):
        pay(1, began=now - timedelta(days=1), payer=replace(there, run_id=uuid7()))
    roll_up_days()
    for tenant in (payer.tenant_id, there.tenant_id):
        with tenant_context(tenant):
            assert UsageDay.objects.get().day == (now - timedelta(days=1)).date()


def test_nobody_sums_up_another_tenant(acme: Tenant, stranger: Actor, pay: Pay) -> None:
    pay(began=NOW - timedelta(days=1))
    roll_up(acme.id, NOW + timedelta(days=1))
    with tenant_context(stranger.tenant.id):
        assert month(stranger.tenant) == []
        assert month(acme) == []
    assert UsageRecord.objects.count() == 1


def test_the_charge_back_of_a_month(acme: Tenant, payer: Payer, pay: Pay) -> None:
    marked = replace(gpt(payer), markup_percent=Decimal(10))
    pay(1)
    pay(2, quote=marked, payer=replace(payer, agent=""))
    pay(3, began=MONTH[1])
    found = invoice(acme.id, parse_month("2026-11"))
    assert [(line.dims["agent"], line.sums.charge) for line in found.lines] == [
        ("", CALL_COST * Decimal("1.1")),
        ("helper", CALL_COST),
    ]
    assert (found.month, found.total.cost, found.final) == ("2026-11", 2 * CALL_COST, datetime.now(UTC) >= MONTH[1])
