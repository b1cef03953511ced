"""Reads of runs and their stored events; what belongs to another tenant, or to others alone, is missing."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from agents.selectors import agent_get
from core.errors import NotFound
from core.ids import NIL, parse_uuid
from runs.events import Event, stored_event
from runs.exceptions import events_expired, unknown_cursor
from runs.models import Run, RunEvent, RunLease, ToolApproval
from runs.stream import RunKey
from sessions_app.models import ChatSession
from sessions_app.selectors.participants import Rows, confine
from sessions_app.selectors.sessions import session_find
from tenants.permissions import authorize, is_confined
from tenants.principal import Principal

MOST_CALLS = 100  # of a client's tools in one answer
_SEEN = """
    AND (run.session_id IN (
            SELECT session_id FROM session_participant
            WHERE tenant_id = %(tenant)s AND person_kind = %(seen_by_kind)s AND person_id = %(seen_by)s)
        OR run.session_id IS NULL AND run.actor_kind = %(seen_by_kind)s AND run.actor_id = %(seen_by)s)
"""


def run_list(*, actor: Principal, session: ChatSession | None = None) -> QuerySet[Run]:
    """`reached` is the seq of each run's last stored event; a run's own row has that once it has ended."""
    authorize(actor, "run.view")
    leases = RunLease.objects.filter(tenant_id=actor.tenant_id, run_id=OuterRef("id"))
    runs = Run.objects.filter(tenant_id=actor.tenant_id).select_related("agent_version__agent", "session")
    runs = confine_runs(runs, actor=actor)
    runs = runs.annotate(reached=Coalesce(Subquery(leases.values("last_seq")), "last_seq"))
    return runs.filter(session_id=session.id) if session else runs


def confine_runs(rows: Rows, *, actor: Principal, run: str = "") -> Rows:
    """Of runs, or of what has a run at the path `run`, those that the actor may see: of their sessions, and those of
    their own that have none.
    """
    own = {"session_id": None, "actor_kind": actor.kind, "actor_id": actor.id}
    return confine(rows, actor=actor, session=f"{run}session_id", own=Q(**{run + name: own[name] for name in own}))


def seen_sql(actor: Principal) -> tuple[str, dict[str, Any]]:
    """What `confine_runs` does, for a statement about `run` that is given the `tenant`: a condition that begins with
    AND, empty for who is unconfined, and what is given for it.
    """
    return (_SEEN, {"seen_by_kind": actor.kind, "seen_by": actor.id}) if is_confined(actor) else ("", {})


def run_get(*, actor: Principal, ref: str) -> Run:
    run = run_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if run is None:
        raise NotFound("No run with this id.")
    return run


class Found(NamedTuple):
    key: RunKey
    created_at: datetime
    is_open: bool


def runs_to_follow(*, actor: Principal, session_id: UUID, since: datetime) -> list[Found]:
    """The runs of a session that are not finished, or began after `since`, in the order of their beginnings."""
    runs = run_list(actor=actor).filter(session_id=session_id)
    runs = runs.filter(Q(finished_at=None) | Q(created_at__gt=since)).order_by("created_at", "id")
    rows = runs.values_list("tenant_id", "id", "day", "created_at", "finished_at")
    return [Found(RunKey(tenant_id, id, day), began, ended is None) for tenant_id, id, day, began, ended in rows]


def answering_runs(*, actor: Principal, agent: str, session: str) -> list[Run]:
    """The runs that give the answer which a session waits for: the first of the agent's that is not finished, and those
    before it that ended with calls of the client's tools, whose results the next one brought. Empty when none is open.

    Raises NotFound for the agent only.
    """
    asked = agent_get(actor=actor, ref=agent)
    found = session_find(actor=actor, ref=session)
    if found is None:
        return []
    runs = run_list(actor=actor, session=found).filter(agent_version__agent_id=asked.id)
    last = runs.filter(finished_at=None).order_by("created_at", "id").first()
    if last is None:
        return []
    earlier = runs.filter(finished_at__lte=last.created_at).order_by("-created_at", "-id")
    answering = [last]
    for run in earlier[:MOST_CALLS] if answering[0].brings_results else []:
        answering.insert(0, run)
        if not run.brings_results:
            break
    return answering


def approval_list(*, actor: Principal, status: str = "", run_id: str = "", q: str = "") -> QuerySet[ToolApproval]:
    """What runs ask persons about calls of tools, newest first; `q` searches the names of tools."""
    authorize(actor, "run.view")
    approvals = ToolApproval.objects.filter(tenant_id=actor.tenant_id).select_related(
        "run__session", "run__agent_version"
    )
    approvals = confine_runs(approvals, actor=actor, run="run__")
    if status:
        approvals = approvals.filter(status=status)
    if run_id:
        approvals = approvals.filter(run_id=parse_uuid(run_id) or NIL)
    return approvals.filter(tool__icontains=q) if q else approvals


def approval_get(*, actor: Principal, ref: str) -> ToolApproval:
    found = approval_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if found is None:
        raise NotFound("No approval with this id.", code="approval_not_found")
    return found


def last_interrupt(*, run: Run) -> int:
    """The seq of the event by which the run told last that it waits, 0 when it never did."""
    rows = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day, type="RUN_FINISHED")
    return rows.order_by("-seq").values_list("seq", flat=True).first() or 0


class Page(NamedTuple):
    """Stored events in order; `is_open` when more may come, because the run is not finished."""

    events: list[Event]
    is_open: bool


def event_page(*, key: RunKey, after: int, limit: int) -> Page:
    """The stored events of a run that follow the seq `after`; the caller has authorised `run.view`, in the tenant.

    Raises EventsExpired when some that follow are no longer kept, and InvalidRequest for a seq that never was.
    """
    leases = RunLease.objects.filter(tenant_id=key.tenant_id, run_id=key.run_id)
    reached = leases.values_list("last_seq", flat=True).first()  # before the events: a run's last ones end its lease
    rows = RunEvent.objects.filter(tenant_id=key.tenant_id, run_id=key.run_id, day=key.day, seq__gt=after)
    events = events_of(rows.order_by("seq")[:limit])
    if not events:
        _check_cursor(key, after, reached)
    elif events[0].first > after + 1:
        raise events_expired(settings.EVENT_RETENTION_DAYS)
    return Page(events, reached is not None)


def events_of(rows: QuerySet[RunEvent]) -> list[Event]:
    return [stored_event(*row) for row in rows.values_list("seq", "at_ms", "type", "data")]


def _check_cursor(key: RunKey, after: int, reached: int | None) -> None:
    last = reached
    if last is None:
        runs = Run.objects.filter(tenant_id=key.tenant_id, id=key.run_id)
        last = runs.values_list("last_seq", flat=True).first()
        if last is None:
            raise NotFound("The run was deleted.", code="run_deleted")
        if after < last:
            raise events_expired(settings.EVENT_RETENTION_DAYS)
    if after > last:
        raise unknown_cursor(after, last)


def event_list(*, actor: Principal, run: Run, after: int = 0, limit: int = 1000) -> list[Event]:
    """The stored events of a run that follow the seq `after`, in order; raises what `event_page` does."""
    authorize(actor, "run.view")
    return event_page(key=run.key, after=after, limit=limit).events
