"""`/v1/usage`, `/v1/budgets`, `/v1/prices`: owner, teammate and stranger, JSON and CSV, all faults at once."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from llm.services.providers import provider_create
from tests.conftest import Actor, make_actor
from tests.usage.conftest import call
from usage.budgets import Payer
from usage.models import Budget, BudgetPeriod, Price
from usage.prices import forget_prices
from usage.services.spending import settle

pytestmark = pytest.mark.django_db
NewBudget = Callable[..., Budget]
PRICE = {"provider": "openai", "model": "gpt-4o*", "input": "3", "output": 12, "markup_percent": "10"}
BUDGET = {"slug": "team", "scope": "tenant", "amount": "10.50", "notify_at": [80]}


@pytest.fixture
def operator(owner: Actor) -> Actor:
    return make_actor(owner.tenant, "operator")


@pytest.fixture
def calls(payer: Payer) -> None:
    """Two calls of an agent and one, that failed, of another."""
    found = [call(payer, 1, total_ms=100), call(payer, 2), call(replace(payer, agent="=odd", run_id=uuid7()), 3)]
    found[2] = replace(found[2], told={"error_code": "provider_timeout"})
    with tenant_context(payer.tenant_id):
        settle(tenant_id=payer.tenant_id, calls=found)


@pytest.fixture
def openai(owner: Actor, in_acme: Any) -> None:
    provider_create(actor=owner.principal, slug="openai", kind="openai", api_key="sk-1")


def fault_paths(response: Any) -> list[str]:
    assert response.status_code == 400
    return [fault["path"] for fault in response.json()["error"]["details"]]


def rows_of(response: Any) -> list[list[str]]:
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode())))


@pytest.mark.usefixtures("calls")
class TestUsage:
    def test_a_report_of_this_month(self, operator: Actor) -> None:
        answer = operator.get("usage", group_by="agent,model", bucket="day")
        assert answer.status_code == 200
        found = answer.json()
        assert [row["dims"] for row in found["data"]] == [
            {"agent": "helper", "model": "gpt-4o"},
            {"agent": "=odd", "model": "gpt-4o"},
        ]
        first = found["data"][0]
        assert first["bucket"] == f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z"
        assert (first["calls"], first["cost"], first["charge"], first["saved"]) == (2, "0.025", "0.025", "0")
        assert (first["cache_hits"], first["hit_rate"], first["total_ms"]) == (0, 0.0, {"p50": 0, "p95": 100})
        assert found["data"][1]["failed"] == 1
        assert (found["total"]["calls"], found["total"]["cost"]) == (3, "0.0375")

    def test_who_may_see_it(self, viewer: Actor, stranger: Actor) -> None:
        for path in ("usage", "usage/records", "usage/invoice"):
            assert viewer.get(path).status_code == 403
            assert stranger.get(path).status_code == 200
        assert stranger.get("usage").json()["data"] == []
        assert stranger.get("usage/records").json()["data"] == []
        assert stranger.get("usage/invoice").json()["lines"] == []

    def test_a_scope_that_reads_is_enough(self, owner: Actor) -> None:
        for scope, status in (("read", 200), ("chat", 403)):
            assert make_actor(owner.tenant, "operator", scopes=[scope]).get("usage").status_code == status

    def test_every_fault_is_told_at_once(self, owner: Actor) -> None:
        given = {"from": "yesterday", "group_by": "model,agent,run", "user": "olga", "cached": "perhaps", "modell": "x"}
        assert sorted(fault_paths(owner.get("usage", **given))) == ["cached", "from", "group_by", "modell", "user"]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"from": "2026-11-02", "to": "2026-11-01"}, "`to` must be later than `from`"),
            ({"from": "2025-01-01", "to": "2026-11-01"}, "at most 366 days"),
            ({"from": "2026-09-01", "to": "2026-11-01", "bucket": "hour"}, "by the hour spans at most 31 days"),
            ({"from": "2026-11-01T00:00:00"}, "needs a zone"),
            ({"from": "0001-01-01T00:00:00+14:00"}, "between the years 2000 and 2100"),
            ({"to": "9999-12-31"}, "between the years 2000 and 2100"),
            ({"group_by": "colour"}, "'colour' is none of provider, model"),
            ({"group_by": "model,model"}, "each dimension once"),
            ({"format": "xml"}, "json or csv"),
        ],
    )
    def test_limits_are_named(self, owner: Actor, given: dict[str, str], message: str) -> None:
        answer = owner.get("usage", **given)
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]

    def test_too_many_rows_are_refused(self, owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("usage.api.usage.MOST_ROWS", 1)
        answer = owner.get("usage", group_by="agent")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_rows")
        assert "more than 1 rows" in answer.json()["error"]["message"]

    def test_a_time_may_be_a_date_or_have_any_zone(self, owner: Actor) -> None:
        found = owner.get("usage", **{"from": "2026-11-01T01:00:00+01:00", "to": "2026-11-03"}).json()
        assert (found["start"], found["end"]) == ("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z")

    def test_csv_is_safe_in_a_spreadsheet(self, owner: Actor) -> None:
        table = rows_of(owner.get("usage", group_by="agent", format="csv"))
        assert table[0][:3] == ["agent", "calls", "failed"]
        assert [row[0] for row in table[1:]] == ["helper", "'=odd"]
        assert table[1][table[0].index("cost")] == "0.025"

    async def test_csv_is_streamed(self, owner: Actor) -> None:
        answer = await owner.ahttp.get("/v1/usage?group_by=agent", headers={**owner.headers, "Accept": "text/csv"})
        assert answer.streaming
        pieces = [piece async for piece in answer]
        assert b"".join(pieces).count(b"\r\n") == 3

    def test_single_calls(self, owner: Actor, payer: Payer) -> None:
        first = owner.get("usage/records", limit=2).json()
        rest = owner.get("usage/records", limit=2, cursor=first["next_cursor"]).json()
        found = [*first["data"], *rest["data"]]
        assert (len(found), rest["has_more"]) == (3, False)
        assert len({row["id"] for row in found}) == 3
        assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
        assert {row["cost"] for row in found} == {"0.0125"}
        of_run = owner.get("usage/records", run=str(payer.run_id)).json()["data"]
        assert {row["run_id"] for row in of_run} == {str(payer.run_id)}
        assert len(of_run) == 2
        assert owner.get("usage/records", api_key=str(payer.actor_id), error_code="provider_timeout").json()["data"]
        assert owner.get("usage/records", cursor="bm8").status_code == 400

    def test_the_invoice(self, owner: Actor) -> None:
        month = f"{datetime.now(UTC):%Y-%m}"
        found = owner.get("usage/invoice").json()
        assert (found["month"], found["final"], found["total"]["charge"]) == (month, False, "0.0375")
        assert {line["agent"]: line["calls"] for line in found["lines"]} == {"helper": 2, "=odd": 1}
        table = rows_of(owner.get("usage/invoice", month=month, format="csv"))
        assert table[1] == [month, "openai", "gpt-4o", "helper", "2", "2000", "2000", "0", "0", "0.025", "0", "0.025"]
        for month in ("november", "9999-12", "2026-13"):
            assert owner.get("usage/invoice", month=month).status_code == 400

    def test_an_invoice_of_too_many_lines_is_refused(
        self, owner: Actor, calls: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("usage.invoices.MOST_LINES", 1)
        answer = owner.get("usage/invoice")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_rows")

    def test_a_report_takes_few_queries(self, owner: Actor) -> None:
        owner.get("usage")
        for path in ("usage?group_by=agent", "usage/records", "usage/invoice"):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                owner.get(path)
            assert len([q for q in queries if "usage_" in q["sql"]]) <= 2


class TestBudgets:
    def test_its_life(self, owner: Actor) -> None:
        made = owner.post("budgets", BUDGET)
        assert made.status_code == 201
        budget = made.json()
        assert (budget["amount"], budget["period"], budget["unit"], budget["hard"]) == ("10.5", "month", "usd", True)
        changed = owner.patch("budgets/team", {"amount": 20, "hard": False}).json()
        assert (changed["amount"], changed["hard"]) == ("20", False)
        whole = {**BUDGET, "amount": 30, "notify_at": []}
        assert owner.put(f"budgets/{budget['id']}", whole).json()["notify_at"] == []
        assert owner.get("budgets/team").json()["amount"] == "30"
        assert owner.delete("budgets/team").status_code == 204
        assert owner.get("budgets/team").status_code == 404
        with tenant_context(owner.tenant.id):
            told = [event.action for event in AuditEvent.objects.filter(object_type="budget").order_by("created_at")]
        assert told == ["budget.create", "budget.update", "budget.update", "budget.delete"]

    def test_who_may_do_what(self, owner: Actor, viewer: Actor, operator: Actor, stranger: Actor) -> None:
        owner.post("budgets", BUDGET)
        assert viewer.get("budgets").status_code == 403
        assert len(operator.get("budgets").json()["data"]) == 1
        assert stranger.get("budgets").json()["data"] == []
        for path in ("budgets/team", "budgets/team/periods", "budgets/team/forecast"):
            assert operator.get(path).status_code == 200
            assert stranger.get(path).status_code == 404
        assert operator.post("budgets", {**BUDGET, "slug": "x"}).status_code == 403
        assert operator.patch("budgets/team", {"amount": 1}).status_code == 403
        assert operator.delete("budgets/team").status_code == 403
        assert stranger.patch("budgets/team", {"amount": 1}).status_code == 404
        assert stranger.delete("budgets/team").status_code == 404

    def test_every_fault_is_told_at_once_and_nothing_is_made(self, owner: Actor) -> None:
        bad = {"slug": "A b", "scope": "planet", "amount": -1, "hard": "yes", "notify_emails": ["x"], "colour": 1}
        wanted = ["amount", "colour", "hard", "notify_emails.0", "scope", "slug"]
        assert sorted(fault_paths(owner.post("budgets", bad))) == wanted
        assert owner.post("budgets", [1]).status_code == 400
        assert owner.post("budgets", {**BUDGET, "actor": "me"}).status_code == 400
        with tenant_context(owner.tenant.id):
            assert not Budget.objects.exists()

    @pytest.mark.parametrize(
        ("given", "path", "said"),
        [
            ({"subject": "ada"}, "subject", "A budget of the tenant has no subject"),
            ({"scope": "user", "subject": "ada"}, "subject", "The subject must be the id of the user"),
            ({"unit": "tokens", "amount": "1.5"}, "amount", "A number of tokens is whole."),
            ({"notify_emails": ["x"]}, "notify_emails.0", "This is no e-mail address."),
            ({"slug": "A b"}, "slug", "Use 1 to 63 of a-z"),
        ],
    )
    def test_faults_are_told_in_words_and_with_their_field(
        self, owner: Actor, given: dict[str, Any], path: str, said: str
    ) -> None:
        (fault,) = owner.post("budgets", {**BUDGET, **given}).json()["error"]["details"]
        assert fault["path"] == path
        assert fault["message"].startswith(said)

    def test_what_is_fixed_stays(self, owner: Actor) -> None:
        owner.post("budgets", BUDGET)
        answer = owner.patch("budgets/team", {"unit": "tokens"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "immutable")
        assert owner.post("budgets", BUDGET).status_code == 409

    def test_tokens_stay_whole(self, owner: Actor) -> None:
        owner.post("budgets", {**BUDGET, "unit": "tokens", "amount": "100"})
        answer = owner.patch("budgets/team", {"amount": "1.5"})
        assert (answer.status_code, fault_paths(answer)) == (400, ["amount"])
        assert owner.get("budgets/team").json()["amount"] == "100"

    def test_a_tenant_has_so_many(self, owner: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("usage.services.budgets.MAX_BUDGETS", 1)
        monkeypatch.setattr("usage.services.prices.MAX_PRICES", 0)
        assert owner.post("budgets", BUDGET).status_code == 201
        for path, body in (
            ("budgets", {**BUDGET, "slug": "second"}),
            ("prices", {"model": "x", "input": 1, "output": 1}),
        ):
            answer = owner.post(path, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many")

    def test_the_period_under_way(self, owner: Actor, calls: None) -> None:
        owner.post("budgets", {**BUDGET, "amount": "0.05"})
        (period,) = owner.get("budgets/team").json()["current"]
        assert (period["spent"], period["reserved"], period["left"], period["percent"]) == ("0.0375", "0", "0.0125", 75)
        start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        assert period["starts_at"] == f"{start:%Y-%m-%dT%H:%M:%SZ}"
        assert period["resets_at"] == f"{(start + timedelta(days=32)).replace(day=1):%Y-%m-%dT%H:%M:%SZ}"
        assert owner.get("budgets/team/periods").json()["data"] == [period]

    def test_a_period_that_nobody_has_begun_is_shown(self, owner: Actor, new_budget: NewBudget) -> None:
        new_budget("team")
        BudgetPeriod.objects.all().delete()
        (period,) = owner.get("budgets/team").json()["current"]
        assert (period["spent"], period["left"]) == ("0", "1")

    def test_each_subject_has_its_own(self, owner: Actor, payer: Payer, new_budget: NewBudget) -> None:
        new_budget("each", scope="end_user")
        for number, name in enumerate(("ada", "bob"), 1):
            settle(tenant_id=payer.tenant_id, calls=[call(replace(payer, end_user=name), number)])
        assert {period["subject"] for period in owner.get("budgets/each").json()["current"]} == {"ada", "bob"}
        answer = owner.get("budgets/each/forecast")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "subject")
        assert owner.get("budgets/each/forecast", subject="ada").json()["spent"] == "0.0125"

    def test_a_list_takes_the_same_queries_for_any_number(self, owner: Actor, new_budget: NewBudget) -> None:
        counts = []
        for number in range(3):
            new_budget(f"team-{number}")
            owner.get("budgets")
            with CaptureQueriesContext(connection) as queries:
                assert len(owner.get("budgets").json()["data"]) == number + 1
            counts.append(len(queries))
        assert len(set(counts)) == 1

    def test_without_history_there_is_no_forecast(self, owner: Actor, new_budget: NewBudget) -> None:
        new_budget("team")
        found = owner.get("budgets/team/forecast").json()
        assert (found["forecast"], found["reached_on"], found["spent"]) == (None, None, "0")


class TestPrices:
    def test_its_life(self, owner: Actor, openai: None) -> None:
        made = owner.post("prices", PRICE)
        assert made.status_code == 201
        price = made.json()
        assert (price["input"], price["output"], price["cached"], price["markup_percent"]) == ("3", "12", None, "10")
        assert owner.get(f"prices/{price['id']}").json() == price
        assert owner.get("prices", model="gpt-4o*").json()["data"] == [price]
        assert owner.post("prices", {**PRICE, "effective_from": price["effective_from"]}).status_code == 409
        assert owner.delete(f"prices/{price['id']}").status_code == 204
        assert owner.get(f"prices/{price['id']}").status_code == 404
        with tenant_context(owner.tenant.id):
            told = [event.action for event in AuditEvent.objects.filter(object_type="price").order_by("created_at")]
        assert told == ["price.create", "price.delete"]

    def test_who_may_do_what(self, owner: Actor, viewer: Actor, operator: Actor, stranger: Actor) -> None:
        ref = owner.post("prices", {**PRICE, "provider": ""}).json()["id"]
        assert viewer.get("prices").status_code == 403
        assert operator.get(f"prices/{ref}").status_code == 200
        assert operator.post("prices", PRICE).status_code == 403
        assert operator.delete(f"prices/{ref}").status_code == 403
        assert stranger.get("prices").json()["data"] == []
        assert stranger.get(f"prices/{ref}").status_code == 404
        assert stranger.delete(f"prices/{ref}").status_code == 404

    def test_every_fault_is_told_at_once_and_nothing_is_made(self, owner: Actor) -> None:
        bad = {"provider": "Open AI", "model": "", "input": -1, "markup_percent": "much", "effective_from": "now"}
        wanted = ["effective_from", "input", "markup_percent", "model", "provider"]
        assert sorted(fault_paths(owner.post("prices", bad))) == wanted
        early = {**PRICE, "effective_from": "0001-01-01T00:00:00+14:00"}
        assert fault_paths(owner.post("prices", early)) == ["effective_from"]
        with tenant_context(owner.tenant.id):
            assert not Price.objects.exists()

    @pytest.mark.parametrize(
        ("given", "path", "said"),
        [
            ({"model": "x", "input": 1}, "output", "Give both input and output"),
            ({"model": "x", "cached": 1}, "cached", "A price of cached tokens needs"),
            ({"model": "a*b"}, "model", "Give a model's name, the beginning of names followed by '*'"),
            ({"model": "*", "provider": "Open AI"}, "provider", "Give the slug of a provider"),
        ],
    )
    def test_faults_are_told_in_words_and_with_their_field(
        self, owner: Actor, given: dict[str, Any], path: str, said: str
    ) -> None:
        (fault,) = owner.post("prices", given).json()["error"]["details"]
        assert fault["path"] == path
        assert fault["message"].startswith(said)

    def test_a_provider_of_another_tenant_has_no_price(self, owner: Actor, stranger: Actor, openai: None) -> None:
        answer = stranger.post("prices", PRICE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_provider")
        assert answer.json()["error"]["param"] == "provider"
        assert stranger.get("prices").json()["data"] == []

    def test_a_quote_says_whose_price_counts(self, owner: Actor, openai: None) -> None:
        provider_create(actor=owner.principal, slug="local", kind="scripted")
        asked = {"provider": "openai", "model": "gpt-4o"}
        listed = owner.get("prices/quote", **asked).json()
        assert (listed["source"], listed["known"], listed["input"]) == ("list of openai", True, "2.5")
        owner.post("prices", PRICE)
        forget_prices(owner.tenant.id)
        owned = owner.get("prices/quote", **asked).json()
        assert (owned["source"], owned["input"], owned["markup_percent"]) == ("own", "3", "10")
        free = owner.get("prices/quote", provider="local", model="default").json()
        assert (free["source"], free["input"]) == ("free", "0")
        unknown = owner.get("prices/quote", provider="openai", model="no-such-model").json()
        assert (unknown["source"], unknown["known"], unknown["input"]) == ("unknown", False, None)
        missing = owner.get("prices/quote", provider="nobody", model="x")
        assert (missing.status_code, missing.json()["error"]["code"]) == (400, "unknown_provider")
        assert owner.get("prices/quote", provider="openai").status_code == 400
        assert owner.get("prices/quote", provider="openai", model="x", colour="y").status_code == 400
