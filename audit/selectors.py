from datetime import datetime

from django.db.models import QuerySet

from audit.models import AuditEvent
from tenants.permissions import authorize
from tenants.principal import Principal


def event_list(
    *,
    actor: Principal,
    action: str = "",
    object_type: str = "",
    object_id: str = "",
    since: datetime | None = None,
) -> QuerySet[AuditEvent]:
    """Newest first; `action` matches from its beginning (`agent.`), `object_type` and `object_id` exactly."""
    authorize(actor, "audit.view")
    events = AuditEvent.objects.filter(tenant_id=actor.tenant_id)
    if action:
        events = events.filter(action__startswith=action)
    if object_type:
        events = events.filter(object_type=object_type)
    if object_id:
        events = events.filter(object_id=object_id)
    if since:
        events = events.filter(created_at__gte=since)
    return events
