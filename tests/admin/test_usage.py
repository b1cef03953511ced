"""Usage, budgets and prices in the pages: for operators to look at, for admins to change."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Tenant, User
from tests.admin.conftest import browser_of, make_member, page, post, text_of
from tests.conftest import Actor
from tests.usage.conftest import call
from usage.admin_parts import dollars
from usage.budgets import Payer
from usage.models import Budget, BudgetPeriod, Price, UsageRecord
from usage.prices import Quote, Tokens
from usage.services.spending import settle

pytestmark = pytest.mark.django_db
BUDGET = {
    "slug": "team",
    "scope": "tenant",
    "period": "month",
    "unit": "usd",
    "amount": "2.5",
    "hard": "on",
    "is_active": "on",
    "notify_at": "50 %, 100",
    "notify_emails": "boss@example.com\nceo@example.com",
}
PRICE = {"provider": "", "model": "gpt-4o*", "input": "3", "output": "12", "markup_percent": "10"}
PAGES = ("usage-report/", "usage/usagerecord/", "usage/budget/", "usage/price/")


@pytest.fixture
def oscar(acme: Tenant) -> Client:
    """Who may look at what was spent, and change nothing of it."""
    return browser_of(make_member(acme, "oscar", "operator"))


@pytest.fixture
def payer(acme: Tenant) -> Payer:
    ids = {name: uuid7() for name in ("agent_id", "session_id", "run_id")}
    return Payer(acme.id, "api_key", uuid7(), "web shop", end_user="ada", agent="helper", agent_version=3, **ids)


@pytest.fixture
def spent(payer: Payer) -> None:
    """Today, and in the month before."""
    now = datetime.now(UTC)
    told = {"route": "cheap", "reason": "lowest cost of 2"}
    calls = [
        call(payer, 1, told=told, total_ms=640, first_token_ms=70),
        call(payer, 2, cached=True),
        call(payer, 3, quote=Quote(None, "unknown"), model="new-model", tokens=Tokens(input=5)),
        call(payer, 4, began=now.replace(day=1) - timedelta(days=3), model="old-model"),
    ]
    with tenant_context(payer.tenant_id):
        settle(tenant_id=payer.tenant_id, calls=calls)


def test_amounts_as_people_write_them() -> None:
    shown = [dollars(Decimal(value)) for value in ("0", "1234.567", "0.012500000000", "0.5", "0.00000123456")]
    assert shown == ["$0.00", "$1,234.57", "$0.0125", "$0.50", "$0.000001235"]
    assert dollars(None) == "not known"


@pytest.mark.parametrize("path", PAGES)
def test_who_may_look(oscar: Client, vera: Client, stan: Client, spent: None, path: str) -> None:
    assert page(oscar, path).status_code == 200
    assert page(vera, path).status_code == 403
    assert "helper" not in text_of(page(stan, path, "globex"))
    assert page(stan, path).status_code == 404


def test_the_sidebar_shows_what_may_be_opened(oscar: Client, vera: Client) -> None:
    assert "/t/acme/admin/usage-report/" in text_of(page(oscar, ""))
    assert "/t/acme/admin/usage-report/" not in text_of(page(vera, ""))


@pytest.mark.parametrize("path", PAGES)
def test_a_tenant_without_anything_is_told_what_to_do(olga: Client, path: str) -> None:
    content = text_of(page(olga, path))
    friendly = ("Nothing was used in this time", "Nothing in the last 7 days", "Nothing bounds", "Models cost what")
    assert any(words in content for words in friendly)


def test_the_report(oscar: Client, spent: None) -> None:
    content = text_of(page(oscar, "usage-report/"))
    for words in ("$0.0125", "By agent", "helper", "web shop", "1 call of models without a known price is", "33.3"):
        assert words in content, words
    assert "old-model" not in content
    assert "old-model" in text_of(page(oscar, "usage-report/", span="last"))
    assert "This month" in text_of(page(oscar, "usage-report/", span="never"))


def test_the_report_as_csv(oscar: Client, vera: Client, spent: None) -> None:
    answer = page(oscar, "usage-report/", csv="model")
    table = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert table[0][:3] == ["provider", "model", "calls"]
    assert [row[1] for row in table[1:]] == ["gpt-4o", "new-model"]
    assert page(oscar, "usage-report/", csv="day").headers["Content-Type"].startswith("text/csv")
    assert page(vera, "usage-report/", csv="model").status_code == 403
    name = f"usage-by-provider-model-{datetime.now(UTC):%Y-%m}-01.csv"
    assert name in answer.headers["Content-Disposition"]


def test_what_is_not_known_is_no_zero(oscar: Client, payer: Payer) -> None:
    unknown = call(payer, 1, quote=Quote(None, "unknown"), model="new-model")
    with tenant_context(payer.tenant_id):
        settle(tenant_id=payer.tenant_id, calls=[unknown])
    content = text_of(page(oscar, "usage-report/"))
    assert content.count('data-label="Charge">not known<') >= 3
    assert 'card-figure">not known<' in content
    with tenant_context(payer.tenant_id):
        settle(tenant_id=payer.tenant_id, calls=[call(payer, 2)])
    cache.clear()
    assert 'data-label="Charge">$0.0125 + 1 unknown<' in text_of(page(oscar, "usage-report/"))


def test_the_report_of_own_dates(oscar: Client, spent: None) -> None:
    today = datetime.now(UTC).date()
    before = today.replace(day=1) - timedelta(days=3)
    content = text_of(page(oscar, "usage-report/", **{"from": f"{before}", "to": f"{before}"}))
    assert "old-model" in content
    assert "new-model" not in content
    assert f"?from={before}&amp;to={before}&amp;csv=model" in content
    both = text_of(page(oscar, "usage-report/", **{"from": f"{before}"}))
    assert "old-model" in both
    assert "new-model" in both
    backwards = {"from": f"{today}", "to": f"{before}"}
    for bad in ({"from": "soon"}, backwards, {"from": "1990-01-01"}, {"to": "9999-12-31"}):
        content = text_of(page(oscar, "usage-report/", **bad))
        assert "Give two dates" in content
        assert "new-model" in content  # of this month


def test_the_report_by_provider_route_and_end_user(oscar: Client, spent: None, payer: Payer) -> None:
    content = text_of(page(oscar, "usage-report/"))
    for words in ("By provider", "By route", "cheap", "no route", "By end user", "ada"):
        assert words in content, words
    old = text_of(page(oscar, "usage-report/", span="last"))
    assert "By route" not in old  # nobody went by one
    assert "By provider" in old


def test_a_shared_answer_is_none_from_the_cache(oscar: Client, payer: Payer) -> None:
    told = {"reason": "joined: an identical call was under way"}
    calls = [call(payer, 1), call(payer, 2, cached=True, told=told)]
    with tenant_context(payer.tenant_id):
        settle(tenant_id=payer.tenant_id, calls=calls)
    content = text_of(page(oscar, "usage-report/"))
    assert '<p class="card-note">0 answers</p>' in content
    assert '<p class="card-figure">$0.00</p><p class="card-note">by the cache</p>' in content
    listed = text_of(page(oscar, "usage/usagerecord/"))
    assert "shared answer" in listed
    assert "from the cache" not in listed
    with tenant_context(payer.tenant_id):
        record = UsageRecord.objects.get(cached=True)
    detail = text_of(page(oscar, f"usage/usagerecord/{record.id}/change/"))
    assert "Saved by sharing the answer" in detail


def test_a_report_is_added_up_once_a_minute(oscar: Client, spent: None) -> None:
    page(oscar, "usage-report/")
    with CaptureQueriesContext(connection) as queries:
        page(oscar, "usage-report/")
    assert not [query for query in queries if "usage_record" in query["sql"]]


def test_calls_are_listed_in_few_queries_and_opened(oscar: Client, stan: Client, spent: None, payer: Payer) -> None:
    page(oscar, "")
    with CaptureQueriesContext(connection) as queries:
        content = text_of(page(oscar, "usage/usagerecord/", q=str(payer.run_id)))
    assert len([query for query in queries if "usage_record" in query["sql"]]) <= 3
    assert content.count("openai/gpt-4o") >= 2
    with tenant_context(payer.tenant_id):
        record = UsageRecord.objects.get(route="cheap")
    detail = text_of(page(oscar, f"usage/usagerecord/{record.id}/change/"))
    for words in ("lowest cost of 2", "Route cheap", "list of openai", "$2.5", "640 ms, 70 ms", "Model calls"):
        assert words in detail, words
    assert page(stan, f"usage/usagerecord/{record.id}/change/", "globex").status_code == 302
    assert post(oscar, f"usage/usagerecord/{record.id}/delete/", {"post": "yes"}).status_code == 403


def test_a_run_shows_its_calls(oscar: Client, vera: Client, spent: None, payer: Payer) -> None:
    with tenant_context(payer.tenant_id):
        who = {"actor_kind": "api_key", "actor_label": "x", "source": "api"}
        Run.objects.create(id=payer.run_id, tenant_id=payer.tenant_id, model="m", status="succeeded", **who)
    path = f"runs/run/{payer.run_id}/change/"
    content = text_of(page(oscar, path))
    in_all = "4 calls, $0.025 + 1 unknown in all"
    for words in ("Model calls", "route cheap: lowest cost of 2", "$0.0125 saved", in_all, "1,000 in, "):
        assert words in content, words
    assert "Model calls" not in text_of(page(vera, path))


def test_the_overview_shows_the_cost(oscar: Client, vera: Client, spent: None, payer: Payer) -> None:
    with tenant_context(payer.tenant_id):
        who = {"actor_kind": "api_key", "actor_label": "x", "source": "api"}
        Run.objects.create(tenant_id=payer.tenant_id, model="m", status="succeeded", **who)
    assert ">$0.012</a> <small>+ 1 unknown<" in text_of(page(oscar, "live/"))
    assert "$0.01" not in text_of(page(vera, "live/"))
    assert ">$0.012<" in text_of(page(oscar, ""))


def budget_of(tenant: Tenant) -> Budget:
    with tenant_context(tenant.id):
        return Budget.objects.get()


def test_a_budgets_life(olga: Client, acme: Tenant, spent: None) -> None:
    assert post(olga, "usage/budget/add/", BUDGET).status_code == 302
    budget = budget_of(acme)
    assert (budget.amount, budget.notify_at, budget.notify_emails) == (
        Decimal("2.5"),
        [50, 100],
        ["boss@example.com", "ceo@example.com"],
    )
    listed = text_of(page(olga, "usage/budget/"))
    for words in ("$0.0125 of $2.50", "$2.50 a month, refuses", 'style="width: 0.5%"'):
        assert words in listed, words
    path = f"usage/budget/{budget.id}/change/"
    content = text_of(page(olga, path))
    for words in ("This period", "Spent until now", "Forecast of the month", "Periods"):
        assert words in content, words
    assert re.search(r'name="scope"[^>]*disabled', content)
    assert post(olga, path, {**BUDGET, "amount": "0.01", "hard": ""}).status_code == 302
    assert (budget_of(acme).amount, budget_of(acme).hard) == (Decimal("0.01"), False)
    assert "meter-full" in text_of(page(olga, "usage/budget/"))
    assert post(olga, f"usage/budget/{budget.id}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not Budget.objects.exists()
        told = AuditEvent.objects.filter(object_type="budget").values_list("action", flat=True)
        assert sorted(told) == ["budget.create", "budget.delete", "budget.update"]


def test_faults_are_shown_at_their_fields(olga: Client, acme: Tenant) -> None:
    bad = {**BUDGET, "scope": "user", "subject": "olga", "notify_emails": "nobody", "amount": "-1"}
    content = text_of(post(olga, "usage/budget/add/", bad))
    for words in ("This is no e-mail address", "greater than or equal to 0"):
        assert words in content, words
    assert "Give whole numbers" in text_of(post(olga, "usage/budget/add/", {**BUDGET, "notify_at": "half"}))
    with tenant_context(acme.id):
        assert not Budget.objects.exists()


def test_a_budget_is_of_whom_people_name(olga: Client, owner: Actor, acme: Tenant) -> None:
    owner.post("providers", {"slug": "robot", "kind": "scripted"})
    body = {"slug": "helper", "name": "Helper", "template": "simple", "model": "robot/default"}
    helper = owner.post("agents", body).json()
    shop = owner.post("api-keys", {"name": "web shop", "role": "viewer"}).json()
    ada = make_member(acme, "ada", "viewer")
    User.objects.filter(id=ada.id).update(email="ada@example.com")
    content = text_of(page(olga, "usage/budget/add/"))
    for name, noun in (("helper", "agent"), ("web shop", "API key"), ("ada", "member")):
        assert f'<option value="{name}">{noun}</option>' in content
    named = [("agent", "helper", helper["id"]), ("user", "ada", ada.id), ("user", "Ada@example.com", ada.id)]
    named += [("api_key", "web shop", shop["id"]), ("api_key", f"ask_{shop['prefix']}", shop["id"])]
    for number, (scope, subject, id) in enumerate(named):
        given = {**BUDGET, "slug": f"b-{number}", "scope": scope, "subject": subject}
        assert post(olga, "usage/budget/add/", given).status_code == 302
        with tenant_context(acme.id):
            budget = Budget.objects.get(slug=f"b-{number}")
        assert budget.subject == str(id)
    assert 'value="API key web shop"' in text_of(page(olga, f"usage/budget/{budget.id}/change/"))
    owner.post("api-keys", {"name": "web shop", "role": "viewer"})
    for scope, subject, words in (
        ("api_key", "web shop", "More than one API key is called &#x27;web shop&#x27;: give the id."),
        ("user", "stan", "There is no member &#x27;stan&#x27;."),
        ("run", "soon", "Give the id of the run"),
        ("tenant", "acme", "leave this empty"),
    ):
        answer = text_of(post(olga, "usage/budget/add/", {**BUDGET, "scope": scope, "subject": subject}))
        at_field = answer[answer.index('name="subject"') : answer.index('name="period"')]
        assert words in at_field, words


def test_a_budget_tells_what_is_left_and_who_was_told(olga: Client, acme: Tenant, spent: None) -> None:
    post(olga, "usage/budget/add/", BUDGET)
    path = f"usage/budget/{budget_of(acme).id}/change/"
    content = text_of(page(olga, path))
    assert "$2.49 left" in content
    assert "no notice sent" in content
    with tenant_context(acme.id):
        BudgetPeriod.objects.update(spent=Decimal(2), notified_at=80)
    content = text_of(page(olga, path))
    assert "$0.50 left" in content
    assert "told at 50 %" in content


def test_an_operator_changes_nothing(oscar: Client, olga: Client, acme: Tenant) -> None:
    post(olga, "usage/budget/add/", BUDGET)
    budget = budget_of(acme)
    assert re.search(r'name="amount"[^>]*disabled', text_of(page(oscar, f"usage/budget/{budget.id}/change/")))
    assert post(oscar, f"usage/budget/{budget.id}/change/", {**BUDGET, "amount": "9"}).status_code == 403
    assert post(oscar, "usage/budget/add/", {**BUDGET, "slug": "x"}).status_code == 403
    assert post(oscar, "usage/price/add/", PRICE).status_code == 403
    assert budget_of(acme).amount == Decimal("2.5")


def test_budgets_are_listed_in_the_same_queries_for_any_number(olga: Client, acme: Tenant) -> None:
    counts = []
    for number in range(3):
        post(olga, "usage/budget/add/", {**BUDGET, "slug": f"team-{number}"})
        page(olga, "usage/budget/")
        with CaptureQueriesContext(connection) as queries:
            page(olga, "usage/budget/")
        counts.append(len([query for query in queries if "budget" in query["sql"]]))
    assert len(set(counts)) == 1


def test_a_budget_of_each_one(olga: Client, acme: Tenant, payer: Payer) -> None:
    post(olga, "usage/budget/add/", {**BUDGET, "scope": "end_user", "unit": "tokens", "amount": "5000"})
    assert "nothing yet" in text_of(page(olga, "usage/budget/"))
    assert "Nobody has spent anything" in text_of(page(olga, f"usage/budget/{budget_of(acme).id}/change/"))
    with tenant_context(acme.id):
        settle(tenant_id=acme.id, calls=[call(payer)])
        assert BudgetPeriod.objects.count() == 1
    assert "by the one who spent most" in text_of(page(olga, "usage/budget/"))
    assert "2,000 tokens of 5,000 tokens" in text_of(page(olga, f"usage/budget/{budget_of(acme).id}/change/"))


def test_a_prices_life(olga: Client, acme: Tenant) -> None:
    assert post(olga, "usage/price/add/", PRICE).status_code == 302
    listed = text_of(page(olga, "usage/price/"))
    for words in ("gpt-4o*", "at every provider", "$3 / $12", "10 %", "In force"):
        assert words in listed, words
    with tenant_context(acme.id):
        price = Price.objects.get()
    assert re.search(r'name="input"[^>]*disabled', text_of(page(olga, f"usage/price/{price.id}/change/")))
    assert post(olga, f"usage/price/{price.id}/delete/", {"post": "yes"}).status_code == 302
    bad = post(olga, "usage/price/add/", {**PRICE, "output": "", "provider": "Open AI"})
    assert "Give the slug of a provider" in text_of(bad)
    assert "Give both input and output" in text_of(bad)
    bad = post(olga, "usage/price/add/", {**PRICE, "provider": "nobody"})
    assert "There is no provider &#x27;nobody&#x27;." in text_of(bad)
    with tenant_context(acme.id):
        assert not Price.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_the_charge_back_of_all_tenants(acme: Tenant, globex: Tenant, spent: None) -> None:
    staff = browser_of(User.objects.create_superuser("root"))
    content = text_of(staff.get("/platform/charge-back/"))
    for words in ("Acme", "Globex", "$0.0125 + 1 unknown"):
        assert words in content, words
    answer = staff.get("/platform/charge-back/", {"format": "csv", "month": f"{datetime.now(UTC):%Y-%m}"})
    table = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert table[0][:4] == ["tenant", "month", "provider", "model"]
    assert [row[0] for row in table[1:]] == ["acme", "acme"]
    for tenant in (acme, globex):
        with tenant_context(tenant.id):
            looks = AuditEvent.objects.filter(action="platform.view_charge_back")
            assert {look.actor_label for look in looks} == {"platform: root"}
            assert looks.count() == 2
    assert 'href="/platform/charge-back/"' in text_of(staff.get("/platform/"))
    assert browser_of(make_member(acme, "olga", "owner")).get("/platform/charge-back/").status_code == 403


def test_a_budget_is_named_and_found(olga: Client, oscar: Client, vera: Client, payer: Payer, spent: None) -> None:
    post(olga, "usage/budget/add/", {**BUDGET, "slug": "for-helper", "scope": "agent", "subject": str(payer.agent_id)})
    cache.clear()
    assert "agent helper" in text_of(page(oscar, "usage/budget/"))
    assert "for-helper" in text_of(page(oscar, "search/", s="for-he", extended="1"))
    assert "for-helper" not in text_of(page(vera, "search/", s="for-he", extended="1"))
