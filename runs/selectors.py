"""Reads of runs and their stored events; what belongs to another tenant is missing."""

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from runs.events import Event, stored_event
from runs.models import Run, RunEvent
from sessions_app.models import ChatSession
from tenants.permissions import authorize
from tenants.principal import Principal


def run_list(*, actor: Principal, session: ChatSession | None = None) -> QuerySet[Run]:
    authorize(actor, "run.view")
    runs = Run.objects.filter(tenant_id=actor.tenant_id).select_related("agent_version__agent")
    return runs.filter(session_id=session.id) if session else runs


def run_get(*, actor: Principal, ref: str) -> Run:
    run = run_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if run is None:
        raise NotFound("No run with this id.")
    return run


def event_list(*, actor: Principal, run: Run, after: int = 0, limit: int | None = None) -> list[Event]:
    """The stored events of a run with a higher `seq` than `after`, in order."""
    authorize(actor, "run.view")
    rows = RunEvent.objects.filter(tenant_id=actor.tenant_id, run_id=run.id, seq__gt=after).order_by("seq")
    return [stored_event(row.seq, row.data) for row in (rows[:limit] if limit else rows)]
