from typing import Any

from django.utils import timezone

from audit.models import AuditEvent
from core.audit import Actor, Target
from core.ids import uuid7
from core.request_context import current_request
from core.rows import values_insert


def event_create(*, actor: Actor, action: str, target: Target, before: Any = None, after: Any = None) -> None:
    """Append one event in the caller's transaction; the writer behind `core.audit.record`."""
    request = current_request()
    values = {
        "id": uuid7(),
        "tenant_id": actor.tenant_id,
        "created_at": timezone.now(),
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "actor_label": actor.label,
        "action": action,
        "object_type": action.partition(".")[0],
        "object_id": str(target.id),
        "object_label": str(target)[:200],
        "before": before,
        "after": after,
        "request_id": request.request_id,
        "ip": request.ip,
    }
    values_insert(AuditEvent, values)
