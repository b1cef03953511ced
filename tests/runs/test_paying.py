"""What runs cost: refused before they begin, cut when a cap is reached, recorded whatever becomes of them."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from runs import runner
from runs.models import Run
from runs.process import process
from runs.services.turns import TurnRequest
from sessions_app.models import Message
from sessions_app.services.sessions import session_delete
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from usage.budgets import forget_budgets
from usage.models import BudgetHold, BudgetPeriod, UsageRecord
from usage.prices import forget_prices
from usage.services.budgets import budget_create
from usage.services.prices import price_create

pytestmark = pytest.mark.django_db
Cap = Callable[..., Awaitable[None]]
DOLLAR_A_WORD = {"provider": "scripted", "model": "*", "input": 1_000_000, "output": 1_000_000}


@pytest.fixture
def priced(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    """Every word costs a dollar, coming or going."""
    price_create(actor=owner.principal, **DOLLAR_A_WORD)
    forget_prices(in_acme.id)  # the commit would, which a test's transaction never has


@pytest.fixture
def cap(owner: Actor, in_acme: Tenant, priced: None) -> Cap:
    @sync_to_async
    def make(amount: int, **fields: Any) -> None:
        budget_create(actor=owner.principal, **{"slug": "cap", "scope": "tenant", "amount": amount, **fields})
        forget_budgets(in_acme.id)

    return make


def records() -> list[UsageRecord]:
    return list(UsageRecord.objects.order_by("created_at", "number"))


async def test_each_call_is_recorded_with_its_run(owner: Actor, priced: None, in_acme: Tenant) -> None:
    steps = script({"tool": "time__now", "args": {}}, {"say": "It is late"})
    done = await chat(owner, steps, metadata={"user_id": "ada"})
    assert done.status_code == 200, done.content
    run = await Run.objects.aget()
    found = await sync_to_async(records)()
    assert [(row.number, row.finish_reason, row.certainty) for row in found] == [
        (1, "tool_calls", "exact"),
        (2, "stop", "exact"),
    ]
    assert {(row.run_id, row.session_id, row.agent, row.agent_version, row.end_user) for row in found} == {
        (run.id, run.session_id, "helper", 1, "ada")
    }
    assert found[1].cost == found[1].input_tokens + found[1].output_tokens
    assert found[1].actor_id == owner.principal.id
    assert (run.prompt_tokens, run.completion_tokens) == (
        sum(row.input_tokens for row in found),
        sum(row.output_tokens for row in found),
    )
    assert done.json()["usage"]["total_tokens"] == run.prompt_tokens + run.completion_tokens


async def test_streamed_or_not_an_answer_costs_the_same(owner: Actor, priced: None, in_acme: Tenant) -> None:
    await chat(owner, user("a b c"), model="scripted/default")
    await frames(await chat(owner, user("a b c"), model="scripted/default", stream=True))
    found = await sync_to_async(records)()
    assert [(row.cost, row.agent, row.first_token_ms is not None) for row in found] == [(found[0].cost, "", True)] * 2


async def test_a_full_budget_refuses_before_anything_is_written(owner: Actor, cap: Cap, in_acme: Tenant) -> None:
    await cap(1)
    for model in ("helper", "scripted/default"):
        refused = await chat(owner, user("hello"), model=model)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("budget_exceeded", "budget_exceeded")
        assert "'cap'" in error["message"]
        assert int(refused["Retry-After"]) > 0
    assert await Run.objects.acount() == 0
    assert await Message.objects.acount() == 0


async def test_a_cap_reached_in_mid_answer_cuts_it_and_keeps_what_was_said(
    owner: Actor, cap: Cap, in_acme: Tenant, settings: Any
) -> None:
    settings.BUDGET_ANSWER_TOKENS = 20
    await cap(4000)
    body = await frames(await chat(owner, script({"repeat": "word", "times": 5000}), stream=True))
    assert '"code":"budget_exceeded"' in body[-1]
    run = await Run.objects.aget()
    assert (run.status, run.error_code) == ("failed", "budget_exceeded")
    said = await Message.objects.aget(role="assistant")
    assert 20 < len(said.content.split()) < 2000
    row = (await sync_to_async(records)())[0]
    assert (row.certainty, row.error_code) == ("estimated", "budget_exceeded")
    period = await BudgetPeriod.objects.aget()
    assert (period.reserved, period.spent) == (0, row.charge)
    assert period.spent <= 4000


async def test_a_long_answer_within_the_cap_is_held_for_as_it_goes(
    owner: Actor, cap: Cap, in_acme: Tenant, settings: Any
) -> None:
    settings.BUDGET_ANSWER_TOKENS = 20
    await cap(3000)
    done = await chat(owner, script({"repeat": "word", "times": 300}))
    assert done.status_code == 200
    period = await BudgetPeriod.objects.aget()
    assert (period.reserved, period.spent) == (0, Decimal(done.json()["usage"]["total_tokens"]))


async def test_what_failed_costs_nothing_and_is_recorded(
    owner: Actor, cap: Cap, in_acme: Tenant, settings: Any
) -> None:
    settings.LLM_ATTEMPTS = 2
    settings.LLM_MAX_RETRY_WAIT = 1
    await cap(5000)
    failed = await chat(owner, script({"fail": 429, "retry_after": 0}))
    assert failed.status_code == 429
    assert failed.json()["error"]["code"] == "provider_rate_limited"
    found = await sync_to_async(records)()
    assert [(row.attempt, row.error_code, row.cost) for row in found] == [
        (1, "provider_rate_limited", 0),
        (2, "provider_rate_limited", 0),
    ]
    period = await BudgetPeriod.objects.aget()
    assert (period.reserved, period.spent) == (0, 0)
    assert not await BudgetHold.objects.aexists()


async def test_a_cancelled_answer_is_paid_as_far_as_it_went(owner: Actor, cap: Cap, in_acme: Tenant) -> None:
    await cap(5000)
    slow = TurnRequest("helper", script({"repeat": "word", "times": 500, "delay_ms": 5}), "api")
    run = await runner.begin(actor=owner.principal, request=slow)
    await chat(owner, user("x"), model="scripted/default")
    await runner.stop(actor=owner.principal, ref=str(run.id))
    row = next(row for row in await sync_to_async(records)() if row.run_id == run.id)
    assert (row.error_code, row.certainty) == ("cancelled", "estimated")
    assert row.cost
    assert row.output_tokens < 500
    assert not await BudgetHold.objects.aexists()


async def test_money_is_capped_and_a_model_has_no_price(owner: Actor, cap: Cap) -> None:
    await cap(5)
    created = await owner.apost("providers", {"slug": "mystery", "kind": "openai", "base_url": "http://127.0.0.1:9"})
    assert created.status_code == 201, created.content
    refused = await chat(owner, user("hello"), model="mystery/model-x")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "price_unknown"


async def test_an_answer_in_one_piece_does_not_pass_the_cap_either(
    owner: Actor, cap: Cap, in_acme: Tenant, settings: Any
) -> None:
    settings.BUDGET_ANSWER_TOKENS = 20
    await cap(2000)
    done = await chat(owner, script({"repeat": "word", "times": 5000}), model="scripted/default")
    assert (done.status_code, done.json()["error"]["code"]) == (429, "budget_exceeded")
    period = await BudgetPeriod.objects.aget()
    assert period.reserved == 0
    assert 0 < period.spent <= 2000


async def test_a_run_that_is_deleted_is_paid_all_the_same(owner: Actor, cap: Cap, in_acme: Tenant) -> None:
    await cap(5000)
    slow = TurnRequest("helper", script({"repeat": "word", "times": 500, "delay_ms": 5}), "api", session="s")
    run = await runner.begin(actor=owner.principal, request=slow)
    here = await process()
    task = here.tasks[run.id]
    async with asyncio.timeout(20):
        while here.live[run.id].stored < 3:  # it speaks  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await sync_to_async(session_delete)(actor=owner.principal, ref="s")
    here.cancel(run.id)
    await runner.finished(task)
    row = await UsageRecord.objects.aget(run_id=run.id)
    assert (row.error_code, row.certainty) == ("cancelled", "estimated")
    period = await BudgetPeriod.objects.aget()
    assert (period.reserved, period.spent) == (0, row.charge)


async def test_a_small_budget_pays_for_a_short_answer(owner: Actor, cap: Cap, in_acme: Tenant) -> None:
    """Less is left than is held at first for an answer of any length: the provider is told how long it may be."""
    await cap(60)
    done = await chat(owner, script({"repeat": "a", "times": 5000}), model="scripted/default")
    period = await BudgetPeriod.objects.aget()
    assert period.reserved == 0
    assert 10 < period.spent <= 60
    assert done.status_code in (200, 429)
    hopeless = await chat(owner, user("x" * 500), model="scripted/default", max_tokens=400)
    assert "lower max_tokens" in hopeless.json()["error"]["message"]
    assert "needed and" in hopeless.json()["error"]["message"]
