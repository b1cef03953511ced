from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Coalesce
from django.utils import timezone

from core.jobs import job
from core.tenant import tenant_context
from sessions_app.models import ChatSession
from sessions_app.services.sessions import session_close_idle

BATCH = 500


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
