from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.db.models.functions import Coalesce
from django.utils import timezone

from core.jobs import job
from core.tenant import current_tenant, tenant_context
from sessions_app.models import ChatSession
from sessions_app.services.sessions import session_close_idle
from sessions_app.services.titles import title_make
from tenants.principal import Principal

BATCH = 500


@job("sessions.tidy_search", platform=True, cron="* * * * * */30")
def tidy_search() -> None:
    """Sort the words of new messages into the index, so that neither who writes nor who searches has to."""
    with connections["ops"].cursor() as cursor:
        cursor.execute("SELECT message_search_tidy()")


@job("sessions.close_idle", platform=True, cron="37 * * * *")
def close_idle() -> None:
    """Close the sessions in which nothing was said for SESSION_IDLE_DAYS; 0 leaves all open."""
    if not settings.SESSION_IDLE_DAYS:
        return
    oldest = timezone.now() - timedelta(days=settings.SESSION_IDLE_DAYS)
    said = ChatSession.objects.using("ops").annotate(said_at=Coalesce("last_message_at", "created_at"))
    idle = said.filter(status=ChatSession.Status.OPEN, said_at__lt=oldest).order_by("said_at")
    for tenant_id, session_id in idle.values_list("tenant_id", "id")[:BATCH]:
        with tenant_context(tenant_id):
            session_close_idle(tenant_id=tenant_id, session_id=session_id, before=oldest)


@job("sessions.title")
async def title(session_id: str, actor: dict[str, Any]) -> None:
    """`actor` is who spoke first, or asked for a title: kind, id and label."""
    tenant_id = current_tenant()
    assert tenant_id is not None
    who = UUID(actor["id"]) if actor["id"] else None
    principal = Principal(tenant_id, "", actor["kind"], who, actor["label"], "owner")
    await title_make(actor=principal, session_id=UUID(session_id))
