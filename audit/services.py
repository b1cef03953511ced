from typing import Any

from audit.models import AuditEvent
from core.audit import Actor, Target
from core.request_context import current_request
from core.rows import row_insert


def event_create(*, actor: Actor, action: str, target: Target, before: Any = None, after: Any = None) -> AuditEvent:
    """Append one event in the caller's transaction; the writer behind `core.audit.record`."""
    request = current_request()
    event = AuditEvent(
        tenant_id=actor.tenant_id,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        action=action,
        object_type=action.partition(".")[0],
        object_id=str(target.id),
        object_label=str(target)[:200],
        before=before,
        after=after,
        request_id=request.request_id,
        ip=request.ip,
    )
    row_insert(event)
    return event
