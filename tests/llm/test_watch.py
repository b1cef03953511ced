"""The worker tests the providers that routes depend on, and only those whose turn it is."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from audit.models import AuditEvent
from core.ids import uuid7
from core.tenant import tenant_context
from llm import tasks
from llm.models import Provider
from llm.services.providers import provider_create
from llm.services.routes import route_create, route_update
from tenants.models import Tenant
from tenants.principal import Principal, system_principal
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def actor(upstream: Upstream) -> Iterator[Principal]:
    """Of a tenant with the route `best` over `main`, and with `alone`, which no route uses."""
    tenant = Tenant(slug="acme", name="Acme")
    with tenant_context(tenant.id):
        tenant.save(force_insert=True)
        system = system_principal(tenant.id, tenant.slug)
        for slug in ("main", "alone"):
            provider_create(actor=system, slug=slug, kind="openai", base_url=upstream.url, api_key="sk-test-key")
        route_create(actor=system, slug="best", strategy="fallback", targets=[{"model": "main/mock-1"}])
        yield system


def watched() -> list[str]:
    """The slugs of the providers that are to be tested."""
    tasks.watch_providers()
    jobs = ProcrastinateJob.objects.filter(task_name="llm.test_provider", status="todo")
    ids = [job.args["arguments"]["provider_id"] for job in jobs]
    return sorted(Provider.objects.filter(id__in=ids).values_list("slug", flat=True))


def tested(**fields: Any) -> None:
    Provider.objects.filter(slug="main").update(health_checked_at=timezone.now(), **fields)


def test_whose_turn_it_is(actor: Principal) -> None:
    tested(health="healthy")
    assert watched() == []
    Provider.objects.filter(slug="main").update(health_checked_at=timezone.now() - timedelta(minutes=16))
    assert watched() == ["main"]
    assert watched() == ["main"]
    assert ProcrastinateJob.objects.count() == 1  # it waits already


@pytest.mark.parametrize("health", ["failing", "unknown"])
def test_what_fails_or_is_unknown_is_tested_at_once(actor: Principal, health: str) -> None:
    tested(health=health)
    assert watched() == ["main"]


@pytest.mark.parametrize("why", ["setting", "route off", "target off", "tenant suspended"])
def test_who_is_left_alone(actor: Principal, settings: Any, why: str) -> None:
    match why:
        case "setting":
            settings.LLM_WATCH_PROVIDERS = False
        case "route off":
            route_update(actor=actor, ref="best", changes={"is_active": False})
        case "target off":
            route_update(actor=actor, ref="best", changes={"targets": [{"model": "main/mock-1", "enabled": False}]})
        case _:
            Tenant.objects.using("ops").filter(id=actor.tenant_id).update(status="suspended")
    assert watched() == []


def test_a_test_stores_the_health_and_audits_its_changes(actor: Principal) -> None:
    provider = Provider.objects.get(slug="main")
    for _ in range(2):
        async_to_sync(tasks.test_provider)(str(provider.id))
    provider.refresh_from_db()
    assert provider.health == "healthy"
    assert list(provider.models.values_list("name", flat=True)) == ["mock-1", "mock-2"]
    first = provider.health_checked_at
    assert AuditEvent.objects.filter(action="provider.test").count() == 1
    provider.models.filter(name="mock-2").delete()
    async_to_sync(tasks.test_provider)(str(provider.id))  # it is found again
    assert AuditEvent.objects.filter(action="provider.test").latest("created_at").after["models_added"] == 1
    Provider.objects.filter(id=provider.id).update(base_url="http://127.0.0.1:9/v1")
    for _ in range(2):
        async_to_sync(tasks.test_provider)(str(provider.id))
    provider.refresh_from_db()
    assert provider.health == "failing"
    assert first is not None
    assert provider.health_checked_at is not None
    assert provider.health_checked_at > first
    assert AuditEvent.objects.filter(action="provider.test").count() == 3
    async_to_sync(tasks.test_provider)(str(uuid7()))  # deleted meanwhile
