"""The end of a run: what is stored of it in one transaction, and what its last event says."""

import asyncio
import logging
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError

from core.aio import in_db_thread
from core.errors import ApplicationError, Unavailable
from llm.metering import RunMeter
from runs.events import Event, make_event, run_error, run_finished
from runs.exceptions import RunCancelled
from runs.models import Run
from runs.services.finish import Bill, Finished, Outcome, finish_turn
from runs.services.turns import Turn
from runs.sink import RunSink
from runs.stream import RunStream

logger = logging.getLogger(__name__)
STORE_SECONDS = 300  # for which the end of a run is tried to be stored while the database does not answer


async def store(turn: Turn, outcome: Outcome, told: list[Event], meter: RunMeter) -> Finished | None:
    """Tried again while the database does not answer, and when the agent goes meanwhile."""
    loop = asyncio.get_running_loop()
    end, wait, faults = loop.time() + STORE_SECONDS, 0.05, 0
    while True:
        closed = meter.closed[:]
        try:
            finished = await in_db_thread(
                finish_turn,
                run=turn.run,
                fence=turn.fence,
                outcome=outcome,
                events=told,
                bill=Bill(meter.records, closed, meter.capped),
            )
            if finished is not None:
                meter.settled(closed)
            return finished
        except DatabaseError as error:
            faults += not isinstance(error, OperationalError | InterfaceError)
            if faults > 2 or loop.time() > end:
                raise
        await asyncio.sleep(wait)
        wait = min(2 * wait, 1.0)


async def store_failure(turn: Turn, stream: RunStream, meter: RunMeter) -> tuple[list[Event], Finished | None]:
    """The run ends as failed, with nothing of what it said since the last commit."""
    error = Unavailable("The answer could not be stored.", code="storage_failed")
    last = make_event(stream.stored + 1, "RUN_ERROR", run_error(error))
    try:
        return [last], await store(turn, _failure(error, meter), [last], meter)
    except DatabaseError:
        logger.warning("A run stays open until its lease ends", extra={"run_id": str(turn.run.id)})
        return [last], None


def _failure(error: ApplicationError, meter: RunMeter) -> Outcome:
    used = meter.tokens
    return Outcome(Run.Status.FAILED, [], None, "", error.code, error.message, used.input, used.output)


def terminal_event(turn: Turn, seq: int, sink: RunSink, meter: RunMeter, error: ApplicationError | None) -> Event:
    if error is not None:
        return make_event(seq, "RUN_ERROR", run_error(error))
    fields = run_finished(
        turn.run.thread_id,
        str(turn.run.id),
        finish_reason=sink.finish_reason or "stop",
        model=turn.run.model,
        tokens=meter.tokens,
    )
    return make_event(seq, "RUN_FINISHED", fields)


def outcome_of(
    sink: RunSink, meter: RunMeter, error: ApplicationError | None, partial: dict[str, Any] | None
) -> Outcome:
    status = Run.Status.SUCCEEDED
    if error is not None:
        status = Run.Status.CANCELLED if isinstance(error, RunCancelled) else Run.Status.FAILED
    return Outcome(
        status=status,
        messages=sink.messages,
        partial=partial,
        finish_reason=sink.finish_reason,
        error_code=error.code if error else "",
        error_message=error.message if error else "",
        prompt_tokens=meter.tokens.input,
        completion_tokens=meter.tokens.output,
        first_token_ms=sink.first_token_ms,
    )
