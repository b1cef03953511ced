"""What was spent, in Chromium at each look: a tenant with two months of calls, and one without any."""

import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.admin.browser.conftest import Operator
from tests.outside.site import CHECKOUT, Server

SEED = """
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from core.ids import uuid7
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Tenant
from tenants.principal import system_principal
from usage.budgets import Payer, forget_budgets
from usage.prices import Tokens, quote
from usage.records import CallRecord, call_id
from usage.services.budgets import budget_create
from llm.services.providers import provider_create
from usage.services.prices import price_create
from usage.services.spending import settle

chance, now = random.Random(7), datetime.now(UTC)
tenant = Tenant.objects.using("ops").get(slug="acme")
system = system_principal(tenant.id, "acme")
models = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-20250514")]
models += [("vllm", "own-model")]
agents = [(uuid7(), slug) for slug in ("support", "trip-planner", "")]
keys = [(uuid7(), name) for name in ("web shop", "mobile app", "a key with quite a long name for its work")]
with tenant_context(tenant.id):
    calls, runs = [], []
    for day in range(60):
        for number in range(chance.randrange(3, 9)):
            at = now - timedelta(days=day, minutes=5 + 7 * number)
            agent, key = chance.choice(agents), chance.choice(keys)
            ids = {"agent_id": agent[0], "agent_version": 2} if agent[1] else {}
            run = uuid7()
            payer = Payer(tenant.id, "api_key", key[0], key[1], end_user="ada", agent=agent[1], run_id=run, **ids)
            for leg in range(2 if number == 0 else 1):
                provider, model = models[(number + leg) % 4]
                tokens = Tokens(input=chance.randrange(200, 40000), output=chance.randrange(900), cached=150)
                reason = "first of 2" if not leg else "openai/gpt-4o failed: provider_unavailable"
                told = {"route": "cheap", "reason": reason, "attempt": 1 + leg, "finish_reason": "stop"}
                told |= {"error_code": "provider_unavailable"} if number == 0 and not leg else {}
                quoted = quote(tenant_id=tenant.id, vendor=provider, provider=provider, model=model, at=at)
                times = {"total_ms": chance.randrange(9000), "first_token_ms": chance.randrange(900)}
                calls.append(CallRecord(call_id(run, 1, leg), payer, at, provider, model, quoted, tokens, True, 1, leg,
                                        cached=number == 2, told=told, **times))
            if day == 0:
                who = {"actor_kind": "api_key", "actor_label": key[1], "source": "api", "finished_at": at}
                who |= {"tenant_id": tenant.id, "model": "route/cheap", "status": "succeeded", "started_at": at}
                runs.append(Run(id=run, **who))
    Run.objects.bulk_create(runs)
    told = {"notify_at": [80], "notify_emails": ["a@example.com"]}
    budget_create(actor=system, slug="everything", scope="tenant", amount="40", **told)
    each = {"scope": "api_key", "unit": "tokens", "period": "day", "hard": False}
    budget_create(actor=system, slug="tokens-of-each-key", amount="500000", **each)
    budget_create(actor=system, slug="spent", scope="end_user", subject="ada", amount="0.5")
    forget_budgets(tenant.id)
    settle(tenant_id=tenant.id, calls=calls)
    price_create(actor=system, model="*", markup_percent="15")
    provider_create(actor=system, slug="vllm", kind="scripted")
    price_create(actor=system, provider="vllm", model="own-*", input="0.2", output="0.4")
    print(runs[0].id)
"""


@pytest.fixture(scope="module")
def run_id(server: Server) -> str:
    """Of a run with two calls; two months of others are behind it."""
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", SEED]
    done = subprocess.run(command, env=server.site.env, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def fine(operator: Operator, name: str) -> None:
    operator.shot(name)
    assert operator.serious() == []


def test_what_was_spent(operator: Operator, run_id: str) -> None:
    page = operator.page
    operator.open("")
    page.locator("#live-cards a").click()
    page.select_option("[name=span]", "30d")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("heading", name="By agent")).to_be_visible()
    expect(page.locator("canvas")).to_be_visible()
    page.get_by_text("Figures of the chart").click()
    fine(operator, "usage")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).first.click()
    assert download.value.suggested_filename.endswith(".csv")
    page.get_by_role("link", name="All calls").click()
    expect(page.locator("#result_list")).to_be_visible()
    fine(operator, "calls")
    operator.open(f"usage/usagerecord/?q={run_id}")
    page.locator("#result_list .field-created_at a").first.click()
    expect(page.get_by_text("Why this model")).to_be_visible()
    fine(operator, "call")
    page.get_by_role("link", name="open the run").click()
    expect(page.get_by_role("heading", name="Model calls")).to_be_visible()
    fine(operator, "run-calls")


def test_budgets_and_prices(operator: Operator, run_id: str) -> None:
    page = operator.page
    operator.open("usage/budget/")
    expect(page.locator(".meter").first).to_be_visible()
    fine(operator, "budgets")
    page.get_by_role("link", name="everything").click()
    expect(page.get_by_text("Forecast of the month")).to_be_visible()
    fine(operator, "budget")
    operator.open("usage/budget/add/")
    page.fill("[name=slug]", f"mine-{operator.look}")
    page.fill("[name=amount]", "12.5")
    page.fill("[name=notify_at]", "50, 100")
    fine(operator, "budget-form")
    page.click("button[name=_save]")
    expect(page.get_by_text("was added.")).to_be_visible()
    operator.open("usage/price/")
    fine(operator, "prices")
    operator.open("usage/price/add/")
    fine(operator, "price-form")


def test_a_tenant_without_anything(operator: Operator) -> None:
    for path, name in (
        ("usage-report/", "usage"),
        ("usage/usagerecord/", "calls"),
        ("usage/budget/", "budgets"),
        ("usage/price/", "prices"),
    ):
        operator.open(path, tenant="globex")
        fine(operator, f"empty-{name}")


def test_the_charge_back_of_all_tenants(operator: Operator, run_id: str) -> None:
    operator.page.goto(f"{operator.server.base_url}/platform/charge-back/")
    expect(operator.page.get_by_role("rowheader", name="Acme")).to_be_visible()
    fine(operator, "charge-back")
