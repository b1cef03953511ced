"""Runs that are ended by somebody else than the process that runs them."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from core import audit
from core.errors import ApplicationError, NotFound, TimedOut
from runs import events
from runs.exceptions import RunCancelled
from runs.models import Run, RunEvent
from runs.selectors import events_of, run_get
from runs.services.finish import Finished, Outcome, finish_turn
from runs.services.steer import is_heard
from runs.services.turns import locked_session, new_messages
from runs.starting import goes_on
from sessions_app.selectors.participants import authorize_in
from tenants.permissions import authorize
from tenants.principal import Principal


@transaction.atomic
def run_cancel_request(*, actor: Principal, ref: str) -> Run:
    """The run shall stop: one that waits for its turn ends here, another by its process; one that ended stays so."""
    authorize(actor, "run.cancel")
    run = _locked(run_get(actor=actor, ref=ref))
    if run is None:
        raise NotFound("The run was deleted.")
    authorize_in(actor=actor, session=run.session, permission="run.cancel")
    cancel_request(actor=actor, run=run)
    return run


def cancel_request(*, actor: Principal, run: Run) -> None:
    """As `run_cancel_request`, in the caller's transaction."""
    if run.is_finished or run.cancel_requested_at is not None:
        return
    run.cancel_requested_at = timezone.now()
    run.save(update_fields=["cancel_requested_at"])
    audit.record(actor=actor, action="run.cancel", target=run)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE run_lease SET cancel_requested = true WHERE run_id = %s", [run.id])
    if run.status == Run.Status.QUEUED:
        run_end(run=run, fence=0, after=0, status=Run.Status.CANCELLED, error=RunCancelled("The run was cancelled."))
        run.refresh_from_db()


def _locked(run: Run) -> Run | None:
    """The run, locked; None when it was deleted. Its session is locked first, as whoever begins or ends runs does."""
    locked_session(run)
    rows = Run.objects.select_for_update(of=("self",)).select_related("session")
    return rows.filter(tenant_id=run.tenant_id, id=run.id).first()


def run_end(*, run: Run, fence: int, after: int, status: str, error: ApplicationError, **said: Any) -> Finished | None:
    """End a run that nobody runs, with an error; `said` are the messages that are known of it."""
    outcome = Outcome(status, said.get("messages", []), said.get("partial"), "", error.code, error.message)
    started = [events.make_event(after + 1, "RUN_STARTED", goes_on(run))] if _is_paused(run, after) else []
    told = events.run_error(error)
    if after == 0:  # its messages are not part of the conversation: who sent them has them back
        asked = new_messages(run.request.get("messages", []))
        told["metadata"]["messages"] = [message["id"] for message in asked if message.get("id")]
    last = events.make_event(after + len(started) + 1, "RUN_ERROR", told)
    return finish_turn(run=run, fence=fence, outcome=outcome, events=[*started, last])


def _is_paused(run: Run, seq: int) -> bool:
    """Does the event with this `seq` say that the run waits for a person?"""
    found = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day, seq=seq)
    return any(event.is_interrupt for event in events_of(found))


@transaction.atomic
def run_expire(*, tenant_id: UUID, run_id: UUID) -> None:
    """End a run that has waited for its turn for too long; not one that has started or was heard meanwhile."""
    found = Run.objects.filter(tenant_id=tenant_id, id=run_id).first()
    run = _locked(found) if found else None
    if run is not None and run.status == Run.Status.QUEUED and not is_heard(run):
        message = f"The run waited {settings.RUN_QUEUE_TIMEOUT:g} s for its turn; RUN_QUEUE_TIMEOUT raises this limit."
        error = TimedOut(message, code="queue_timeout")
        run_end(run=run, fence=0, after=0, status=Run.Status.EXPIRED, error=error)
