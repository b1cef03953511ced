"""Calls as the model door hands them over, and budgets to count them."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from core.ids import uuid7
from tenants.models import Tenant
from tests.conftest import Actor
from usage.budgets import Payer, forget_budgets
from usage.models import Budget
from usage.prices import Quote, Tokens, quote
from usage.records import CallRecord, call_id
from usage.services.budgets import budget_create


@pytest.fixture
def payer(acme: Tenant, owner: Actor) -> Payer:
    ids = {name: uuid7() for name in ("agent_id", "session_id", "run_id")}
    return Payer(acme.id, "api_key", owner.principal.id, "owner of acme", end_user="ada", agent="helper", **ids)


@pytest.fixture
def new_budget(owner: Actor, in_acme: Tenant) -> Callable[..., Budget]:
    def make(slug: str = "cap", **fields: Any) -> Budget:
        given = {"slug": slug, "scope": "tenant", "amount": 1, **fields}
        budget = budget_create(actor=owner.principal, **given)
        forget_budgets(budget.tenant_id)  # the commit would, which a test's transaction never has
        return budget

    return make


def gpt(payer: Payer) -> Quote:
    """2.50 US dollars for a million tokens in, 10 for a million out."""
    at = datetime.now(UTC)
    return quote(tenant_id=payer.tenant_id, vendor="openai", provider="openai", model="gpt-4o", at=at)


def call(payer: Payer, number: int = 1, *, tokens: Tokens | None = None, **fields: Any) -> CallRecord:
    """A call that costs 0.0125 US dollars unless told otherwise."""
    assert payer.run_id is not None
    given = {"began": datetime.now(UTC), "provider": "openai", "model": "gpt-4o", "quote": gpt(payer), **fields}
    return CallRecord(
        id=call_id(payer.run_id, 1, number),
        payer=payer,
        tokens=tokens or Tokens(input=1000, output=1000),
        tokens_certain=True,
        fence=1,
        number=number,
        **given,
    )


CALL_COST = Decimal("0.0125")
