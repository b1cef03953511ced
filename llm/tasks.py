"""Background work: watching the providers that routes depend on, and bounding what is kept of models and answers."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum, Window
from django.utils import timezone

from core.aio import in_db_thread
from core.errors import NotFound
from core.jobs import enqueue, job
from core.tenant import current_tenant, tenant_context
from llm.door.bounded import OF_TENANT
from llm.models import AnswerCache, EndpointHealth, Provider, RouteTarget
from llm.services.providers import provider_test
from tenants.models import Tenant
from tenants.principal import Principal, system_principal

UNTESTED_LONG = timedelta(minutes=15)
OVER = timedelta(days=1)  # for which it is shown that an endpoint works again
FORGOTTEN = timedelta(days=7)  # after which nobody asks for an endpoint that failed
BATCH = 1000  # cached answers that are deleted at once
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


@job("llm.trim_cache", platform=True, cron="* * * * *")
def trim_cache() -> None:
    """Delete the cached answers that are too old, and of each tenant those used longest ago beyond LLM_CACHE_MB."""
    rows = AnswerCache.objects.using("ops")
    rows.filter(expires_at__lte=timezone.now()).delete()
    most = settings.LLM_CACHE_MB * 1_000_000
    for tenant_id in (
        rows.values_list("tenant_id")
        .annotate(held=Sum("size"))
        .filter(held__gt=most)
        .values_list("tenant_id", flat=True)
    ):
        _trim(tenant_id, most)


def _trim(tenant_id: UUID, most: int) -> None:
    rows = AnswerCache.objects.using("ops").filter(tenant_id=tenant_id)
    newer = Window(Sum("size"), order_by=[F("used_at").desc(), F("id").desc()])
    beyond = rows.annotate(held=newer).filter(held__gt=most)
    while ids := list(beyond.values_list("id", flat=True)[:BATCH]):
        rows.filter(id__in=ids).delete()


@job("llm.trim_health", platform=True, cron="* * * * *")
def trim_health() -> None:
    """Forget endpoints that work again or are asked no more, and of a tenant the oldest beyond OF_TENANT."""
    now, rows = timezone.now(), EndpointHealth.objects.using("ops")
    works = Q(state=EndpointHealth.State.CLOSED, updated_at__lt=now - OVER)
    rows.filter(works | Q(updated_at__lt=now - FORGOTTEN)).delete()
    counted = rows.order_by().values_list("tenant_id").annotate(count=Count("id")).filter(count__gt=OF_TENANT)
    for tenant_id in counted.values_list("tenant_id", flat=True):
        of_tenant = rows.filter(tenant_id=tenant_id)
        newest = of_tenant.order_by("-updated_at", "-id").values("id")[:OF_TENANT]
        of_tenant.exclude(id__in=newest).delete()
