"""Background work on what models said."""

from uuid import UUID

from django.conf import settings
from django.db.models import F, Sum, Window
from django.utils import timezone

from core.jobs import job
from llm.models import AnswerCache

BATCH = 1000


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
