"""How a run gets to a process later than it began: its turn has come, or the process that had it is gone."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from core import audit
from core.errors import ApplicationError, Unavailable
from runs.events import Event, attempt_restarted, make_event
from runs.exceptions import RunCancelled, RunFailed
from runs.models import Run, RunEvent
from runs.selectors import events_of
from runs.services.approvals import approvals_withdraw
from runs.services.begin import run_start
from runs.services.finish import Finished, principal_of
from runs.services.lease import Claim, events_append, lease_claim
from runs.services.pay import pay_for_lost
from runs.services.steer import steering_forget
from runs.services.stop import run_end
from runs.services.turns import Turn, context_of, locked_session, turn_of
from runs.tool_ledger import answers_to_keep
from runs.transcript import Transcript, still_valid

logger = logging.getLogger(__name__)


@transaction.atomic
def run_take_over(
    *, tenant_id: UUID, run_id: UUID, owner: UUID, checkpoints: Sequence[str] = ()
) -> Turn | Finished | None:
    """Claim a run and make it ready to run here; or end it where it cannot go on. None when there is nothing to claim.

    A lost run begins another attempt, after the last of the agent's `checkpoints` that its events know of, else from
    its start. One that nobody can read any more, that was cancelled, has had RUN_ATTEMPTS, or cannot be made ready,
    ends. Call it in the tenant. Raises only what may pass if it is tried again: that the database does not answer.
    """
    runs = Run.objects.filter(tenant_id=tenant_id, id=run_id)
    found = runs.first()
    if found is None:
        return None
    locked = locked_session(found)
    run = runs.select_for_update(of=("self",)).select_related("agent_version__agent", "session").first()
    if run is None:
        return None
    run.session = locked
    claim = lease_claim(run, owner)
    if claim is None:
        return None
    if claim.lost and run.status != Run.Status.QUEUED:
        _pay(run, claim)  # whatever becomes of the run now
    try:
        with transaction.atomic():
            if run.status == Run.Status.QUEUED:
                return run_start(actor=principal_of(run), run=run, fence=claim.fence)
            return _restart(run, claim, checkpoints)
    except (OperationalError, InterfaceError):
        raise
    except Exception as fault:
        error = _told(run, fault)
        return run_end(run=run, fence=claim.fence, after=claim.last_seq, status=Run.Status.FAILED, error=error)


def _pay(run: Run, claim: Claim) -> None:
    try:
        with transaction.atomic():
            pay_for_lost(run=run, fence=claim.fence - 1, actor=principal_of(run), context=context_of(run))
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("What a lost run used is not known", extra={"run_id": str(run.id)})


def _told(run: Run, fault: Exception) -> ApplicationError:
    """What the run's readers are told of a fault."""
    if isinstance(fault, ApplicationError):
        return fault
    logger.error("A run could not be taken over", exc_info=fault, extra={"run_id": str(run.id)})
    return RunFailed()


def _restart(run: Run, claim: Claim, checkpoints: Sequence[str]) -> Turn | Finished | None:
    told = still_valid(_events(run))
    verdict = _verdict(run, claim)
    if verdict is not None:
        transcript = Transcript(told)
        status, error = verdict
        said = {"messages": transcript.messages, "partial": transcript.partial}
        return run_end(run=run, fence=claim.fence, after=claim.last_seq, status=status, error=error, **said)
    steering_forget(run)
    approvals_withdraw(run, nested=True)
    run.attempt += claim.lost
    run.status = Run.Status.RUNNING  # until it asks again for what it waited for
    run.save(update_fields=["attempt", "status"])
    checkpoint = _last_known(told, checkpoints)
    keep = checkpoint.seq if checkpoint else 1
    new = _restarted(told, claim.last_seq, run.attempt, keep)
    events_append(run, fence=claim.fence, after=claim.last_seq, events=new)
    logger.warning("A run begins again", extra={"run_id": str(run.id), "attempt": run.attempt, "lost": claim.lost})
    audit.record(actor=principal_of(run), action="run.restart", target=run, after={"attempt": run.attempt})
    kept = [event for event in told if event.seq <= keep]
    resume: Any = checkpoint.data["value"] if checkpoint else None
    return turn_of(
        actor=principal_of(run),
        run=run,
        fence=claim.fence,
        stored=new[-1].seq,
        kept=kept,
        told=new,
        resume=resume,
        answers=answers_to_keep(run, told) if resume is None else (),
    )


def _events(run: Run) -> list[Event]:
    rows = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day).order_by("seq")
    return events_of(rows)


def _verdict(run: Run, claim: Claim) -> tuple[str, ApplicationError] | None:
    """Why a run that was lost ends instead of another attempt."""
    if claim.cancel_requested:
        return Run.Status.CANCELLED, RunCancelled("The run was cancelled.")
    lost = Unavailable("The process that ran it ended.", code="run_lost")
    if not run.outlives_caller:
        return Run.Status.EXPIRED, lost  # its caller went with the connection, and has nothing to ask again with
    if claim.lost and run.attempt >= settings.RUN_ATTEMPTS:
        message = f"The processes that ran it ended {run.attempt} times; RUN_ATTEMPTS raises this limit."
        return Run.Status.FAILED, Unavailable(message, code="run_lost")
    return None


def _last_known(told: Sequence[Event], checkpoints: Sequence[str]) -> Event | None:
    marks = [event for event in told if event.type == "CUSTOM" and event.data["name"] == "checkpoint"]
    return next((event for event in reversed(marks) if event.data["value"] in checkpoints), None)


def _restarted(told: Sequence[Event], after: int, attempt: int, keep: int) -> list[Event]:
    """What the attempt before left open is ended, then clients are told to drop it."""
    last = [*Transcript(told).endings(), ("CUSTOM", attempt_restarted(attempt, keep))]
    return [make_event(after + place, type, fields) for place, (type, fields) in enumerate(last, start=1)]
