"""The report of a route, by one statement over the usage records."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from core.tenant import tenant_context
from tenants.models import Tenant
from tests.conftest import Actor
from tests.llm.test_routes import TARGETS, _providers, create, faults
from usage.models import UsageRecord

__all__ = ["_providers"]

pytestmark = pytest.mark.django_db

DEFAULTS = {"route": "best", "provider": "robot", "model": "default", "cost": Decimal("0.1")}
DEFAULTS |= {"first_token_ms": 100, "total_ms": 1000, "certainty": "exact", "input_tokens": 10, "output_tokens": 5}


def record(tenant: Tenant, days: int = 0, **fields: Any) -> None:
    began = timezone.now() - timedelta(days=days)
    with tenant_context(tenant.id):
        UsageRecord.objects.create(tenant=tenant, created_at=began, actor_kind="system", **{**DEFAULTS, **fields})


def test_a_report_compares_the_variants(
    owner: Actor, viewer: Actor, stranger: Actor, django_assert_num_queries: Any
) -> None:
    targets = [{**TARGETS[0], "variant": "A"}, {**TARGETS[1], "variant": "B"}]
    create(owner, strategy="ab_test", targets=targets)
    for number in range(100):
        record(owner.tenant, variant="A", first_token_ms=number, total_ms=number * 10)
    record(owner.tenant, variant="A", error_code="provider_error", first_token_ms=None, total_ms=9, cost=None)
    record(owner.tenant, variant="A", provider="main", model="gpt", error_code="")  # a fallback of A
    record(owner.tenant, variant="B", provider="main", model="gpt", first_token_ms=None, error_code="x", cost=None)
    for other in ({"route": "else"}, {"days": 8}, {"cached": True}):
        record(owner.tenant, variant="A", **other)
    record(stranger.tenant, variant="A")
    body = viewer.get("routes/best/report").json()
    assert body["route"] == "best"
    first, fallback, second = body["rows"]
    assert first == {
        "variant": "A",
        "model": "robot/default",
        "calls": 101,
        "failed": 1,
        "error_rate": 1 / 101,
        "first_token_ms": {"p50": 49.5, "p95": 94.05},
        "total_ms": {"p50": 495.0, "p95": 940.5},
        "cost": "10.000000000000",
        "unpriced": 1,
        "input_tokens": 1010,
        "output_tokens": 505,
    }
    assert (fallback["variant"], fallback["model"], fallback["calls"]) == ("A", "main/gpt", 1)
    assert (second["variant"], second["error_rate"], second["cost"]) == ("B", 1.0, "0")
    assert second["first_token_ms"] == second["total_ms"] == {"p50": None, "p95": None}
    assert owner.get("routes/best/report", days="9").json()["rows"][0]["calls"] == 102
    assert faults(owner.get("routes/best/report", days="93")) == {"days": "max_value"}
    assert faults(owner.get("routes/best/report", days="x")) == {"days": "invalid"}
