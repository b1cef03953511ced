"""Watching the providers that routes depend on."""

from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from core.aio import in_db_thread
from core.errors import NotFound
from core.jobs import enqueue, job
from core.tenant import current_tenant, tenant_context
from llm.models import Provider, RouteTarget
from llm.services import provider_test
from tenants.models import Tenant
from tenants.principal import Principal, system_principal

UNTESTED_LONG = timedelta(minutes=15)
MOST = 500  # tests begun in a minute, those first that waited longest


@job("llm.watch_providers", platform=True, cron="* * * * *")
def watch_providers() -> None:
    """Have the providers of active routes tested that failed their last test, or had none for long."""
    if not settings.LLM_WATCH_PROVIDERS:
        return
    for tenant_id, provider_id in _due().values_list("tenant_id", "id")[:MOST]:
        with tenant_context(tenant_id):
            enqueue("llm.test_provider", once=str(provider_id), provider_id=str(provider_id))


def _due() -> QuerySet[Provider]:
    long_ago = timezone.now() - UNTESTED_LONG
    routed = RouteTarget.objects.filter(
        tenant_id=OuterRef("tenant_id"), provider_id=OuterRef("id"), enabled=True, route__is_active=True
    )
    untested = Q(health_checked_at=None) | Q(health_checked_at__lt=long_ago)
    rows = Provider.objects.using("ops").filter(Exists(routed), tenant__status=Tenant.Status.ACTIVE)
    rows = rows.filter(untested | Q(health__in=(Provider.Health.FAILING, Provider.Health.UNKNOWN)))
    return rows.order_by(F("health_checked_at").asc(nulls_first=True), "id")


@job("llm.test_provider")
async def test_provider(provider_id: str) -> None:
    """Holds no connection of the database while the provider answers."""
    actor = await in_db_thread(_actor)
    with suppress(NotFound):  # it was deleted meanwhile
        await provider_test(actor=actor, ref=provider_id, watching=True)


def _actor() -> Principal:
    tenant_id = current_tenant()
    assert tenant_id is not None
    tenant = Tenant.objects.get(id=tenant_id)
    return system_principal(tenant.id, tenant.slug)
