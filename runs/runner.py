"""Runs turns as tasks of this process, independent of the connection that asked for them."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from threading import Event as Flag
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from agents.executable import cache_policy, executable_of, run_model
from agents.nesting import AgentRun, agent_run
from core.aio import detached, in_db_thread
from core.deadline import deadline
from core.errors import ApplicationError, RateLimited, TimedOut, Unavailable
from core.tenant import tenant_context
from llm.calls import CallContext, calling
from llm.metering import RunMeter
from llm.routing.features import text_pairs
from runs import ending
from runs.approvals import Approvals
from runs.exceptions import RunCancelled, RunFailed
from runs.heard import Heard
from runs.models import Run, RunLease
from runs.process import OWNER, Process, process, topic_of
from runs.selectors import run_get
from runs.services.approvals import Decision, run_resume
from runs.services.begin import Begun, begin_turn
from runs.services.finish import Finished, turn_give_up
from runs.services.pay import payer_of, run_recount
from runs.services.stop import run_cancel_request
from runs.services.take_over import run_take_over
from runs.services.turns import Turn, TurnRequest
from runs.sink import RunSink
from runs.stream import RunKey, RunLost, RunStream
from runs.tool_ledger import RunLedger
from runs.transcript import Transcript
from templates_app.checkpoints import forget, stored_checkpoints, thread_of
from tenants.principal import Principal
from toolsets.toolbox import Toolbox

logger = logging.getLogger(__name__)
_stopping = Flag()
_beginning: set[asyncio.Task[Run]] = set()
STOP_SECONDS = 5.0  # beyond the lease of a lost run, until a cancel answers with a run that has not stopped yet
TELL_SECONDS = 1.0  # for which a stop waits until those who follow runs here are told where these go on


async def begin(*, actor: Principal, request: TurnRequest, quiet: bool = False) -> Run:
    """Begin a turn and run it, or find the run of an earlier request with the same Idempotency-Key.

    `quiet`: its caller waits for the whole answer; so does everybody else, unless it is one of a session.

    Raises RateLimited, before anything is written, when this process has its fill of runs. A caller that is cancelled
    meanwhile leaves no turn without its run: one that somebody may come back for goes on, another is stopped.
    """
    here = await process()
    _refuse_overload(here)
    task = asyncio.create_task(_begin(actor, request, quiet), name="begin-turn")
    _beginning.add(task)
    task.add_done_callback(_beginning.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(partial(_left_alone, here))
        raise


def _refuse_overload(here: Process) -> None:
    if _stopping.is_set():
        raise Unavailable("The server is stopping; ask again in a moment.", code="server_stopping", retry_after=1)
    if len(here.tasks) - len(here.waiting) + len(_beginning) >= settings.MAX_CONCURRENT_RUNS:
        message = (
            f"This server runs {settings.MAX_CONCURRENT_RUNS} turns at once; MAX_CONCURRENT_RUNS raises this limit."
        )
        raise RateLimited(message, code="too_many_runs", retry_after=1)


def is_stopping() -> bool:
    return _stopping.is_set()


async def _begin(actor: Principal, request: TurnRequest, quiet: bool) -> Run:
    here = await process()
    begun: Begun = await in_db_thread(begin_turn, actor=actor, request=request, owner=OWNER)
    if begun.turn is not None:
        start(here, begun.turn, quiet=quiet and begun.run.session_id is None)
    for run_id in begun.interrupted:
        _cancel_anywhere(here, run_id)
    run = begun.run
    if run.session is not None and not run.is_finished:
        here.announce(topic_of(run.session), run.key)
        here.presence.spoke(topic_of(run.session), actor)
    return run


def _left_alone(here: Process, task: asyncio.Task[Run]) -> None:
    if not task.cancelled() and task.exception() is None:
        here.in_background(leave(task.result()))


async def leave(run: Run) -> None:
    """A caller has gone. A run that it cannot come back for ends, also for those who look at its events."""
    if not run.outlives_caller:
        (await process()).cancel(run.id)


def start(here: Process, turn: Turn, *, quiet: bool = False) -> asyncio.Task[None]:
    """Run a turn; who follows the run is shown what it has told already."""
    run = turn.run
    stream = RunStream(
        run.key,
        fence=turn.fence,
        stored=turn.stored,
        writer=here.writer,
        on_lost=lambda: here.interrupt(run.id),
        quiet=quiet,
        early=not (quiet or run.outlives_caller),
    )
    stream.recent += turn.told
    here.live[run.id] = stream
    here.writer.add(stream)
    here.hub.deliver(run.id, turn.told)
    task = detached(_run(here, turn, stream), name=f"run-{run.id}")
    here.tasks[run.id] = task
    if here.moving:
        here.give_up(run.id)
    return task


async def take_over(*, tenant_id: UUID, run_id: UUID) -> asyncio.Task[None] | None:
    """Run a run whose turn has come, or whose process is gone; None when there is nothing to run."""
    with tenant_context(tenant_id):
        return await _claim(tenant_id, run_id, await stored_checkpoints(thread_of(tenant_id, run_id)))


async def _claim(tenant_id: UUID, run_id: UUID, checkpoints: Sequence[str] = ()) -> asyncio.Task[None] | None:
    here = await process()
    if run_id in here.tasks:
        return None  # it is here: this process was paused, and renews the lease or has lost the run
    with tenant_context(tenant_id):
        found = await in_db_thread(
            run_take_over, tenant_id=tenant_id, run_id=run_id, owner=OWNER, checkpoints=checkpoints
        )
    if isinstance(found, Turn):
        return start(here, found)
    here.hub.look(run_id)
    if found is not None:
        _ended(here, tenant_id, run_id, found)
    return None


async def finished(task: asyncio.Task[None]) -> None:
    """Returns once the run has ended or was given up."""
    await asyncio.wait([task])


def _ended(here: Process, tenant_id: UUID, run_id: UUID, finished: Finished) -> None:
    for other in finished.with_it:
        here.hub.look(other)
        here.writer.tell("r", other)
    if finished.watched:
        here.writer.tell("r", run_id)
    if finished.next_run is None:
        return
    if _stopping.is_set():
        here.writer.tell("d", finished.next_run)
    else:
        here.in_background(_claim(tenant_id, finished.next_run))  # if that fails, the worker does it


def _cancel_anywhere(here: Process, run_id: UUID) -> None:
    here.hub.look(run_id)
    if run_id in here.live:
        here.cancel(run_id)
    else:
        here.writer.tell("c", run_id)
        here.writer.tell("r", run_id)


async def stop(*, actor: Principal, ref: str) -> Run:
    """The run as it is once the stop has taken effect; a run whose process is gone ends when its lease does."""
    here = await process()
    run = await in_db_thread(run_cancel_request, actor=actor, ref=ref)
    if not run.is_finished or run.cancel_requested_at is not None:
        _cancel_anywhere(here, run.id)
    with suppress(TimeoutError):
        async with asyncio.timeout(settings.RUN_LEASE_SECONDS + STOP_SECONDS):
            await _until_ended(here, run.key)
    return await in_db_thread(run_get, actor=actor, ref=str(run.id))


async def resume(*, actor: Principal, ref: str, decisions: Sequence[Decision]) -> Run:
    """Decide about what a run waits for; it goes on, wherever it is. Raises what `run_resume` does."""
    here = await process()
    run = await in_db_thread(run_get, actor=actor, ref=ref)
    await in_db_thread(run_resume, actor=actor, run=run, decisions=decisions)
    here.wake(run.id)
    here.writer.tell("a", run.id)
    return await in_db_thread(run_get, actor=actor, ref=ref)


async def _until_ended(here: Process, key: RunKey) -> None:
    with here.hub.mailbox(key) as mailbox:
        if key.run_id not in here.live:
            await here.store.watch([key])
        while await in_db_thread(_is_open, key):
            if not await mailbox.changed(1.0):
                await take_over(tenant_id=key.tenant_id, run_id=key.run_id)


def _is_open(key: RunKey) -> bool:
    return RunLease.objects.filter(tenant_id=key.tenant_id, run_id=key.run_id).exists()


async def shut_down(grace: float) -> None:
    """Refuse new runs, let the others end for `grace` seconds, then give them up to other processes; at once those
    that wait for a person.

    Those who follow runs here are told to follow them elsewhere.
    """
    _stopping.set()
    here = await process()
    here.leaving = True
    for run_id in list(here.waiting):
        here.give_up(run_id)
    if _beginning:
        await asyncio.wait(set(_beginning), timeout=grace)
    await here.settled(grace)
    if here.tasks:
        await asyncio.wait(set(here.tasks.values()), timeout=grace)
    here.moving = True
    for run_id in list(here.tasks):
        here.give_up(run_id)
    if here.tasks:
        await asyncio.wait(set(here.tasks.values()), timeout=10)
    here.hub.move_all()
    await here.presence.leave(TELL_SECONDS)
    await here.told(TELL_SECONDS)
    await here.writer.told()


async def _run(here: Process, turn: Turn, stream: RunStream) -> None:
    run = turn.run
    recount = partial(run_recount, run=run)
    meter = RunMeter(payer_of(run), turn.fence, turn.held, capped=turn.held is not None, recount=recount)
    sink = RunSink(stream, Transcript(turn.kept))
    with tenant_context(run.tenant_id), calling(_call_context(turn, meter)):
        try:
            error = await _execute(here, turn, sink, Heard(here, turn, sink))
            here.ending.add(run.id)
            moves = run.id in here.given_up and isinstance(error, _Interrupted) and run.outlives_caller
            work = _give_up(here, turn, stream, meter) if moves else _finish(here, turn, stream, sink, meter, error)
            await asyncio.shield(work)
        finally:
            meter.ended = True
            if meter.closed:  # a call that ended while the run's end was stored
                here.in_background(meter.late())
            here.writer.remove(stream)
            for held in (here.live, here.tasks):
                held.pop(run.id, None)
            here.ending.discard(run.id)
            here.cancelled.discard(run.id)
            here.given_up.discard(run.id)
            here.hub.look(run.id)


def _call_context(turn: Turn, meter: RunMeter) -> CallContext:
    run, version = turn.run, turn.version
    return CallContext(
        run.tenant_id,
        meter,
        sticky=str(run.end_user or run.session_id or run.actor_id or run.id),
        metadata={**run.request.get("metadata", {}), "user_id": run.end_user, "agent": meter.payer.agent},
        cache=cache_policy(version) if version else None,
        join=version is not None and version.join_calls,
    )


class _Interrupted(Unavailable):
    code = "server_stopping"


async def _execute(here: Process, turn: Turn, sink: RunSink, heard: Heard) -> ApplicationError | None:
    """Runs the turn into the sink; the error with which it ended, if it did."""
    try:
        async with deadline(settings.RUN_TIMEOUT) as limit:
            with heard.listening():
                approvals = Approvals(here, turn.run, turn.fence, sink)
                ledger = RunLedger(turn.run, turn.fence, partial(here.writer.flushed, sink.stream), approvals)
                await _play(turn, sink, heard, ledger)
    except asyncio.CancelledError:
        if turn.run.id in here.cancelled:
            return RunCancelled("The run was cancelled.")
        return _Interrupted("The server stopped during the run.")
    except RunLost:
        return _Interrupted("The run is no longer this process's.")
    except ApplicationError as error:
        return error
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired:
            message = f"The run exceeded {settings.RUN_TIMEOUT:g} s; RUN_TIMEOUT raises this limit."
            return TimedOut(message, code="run_timeout")
        if sink.stream.lost:
            return _Interrupted("The run is no longer this process's.")
        logger.exception("A run failed", extra={"run_id": str(turn.run.id)})
        return RunFailed()
    return None


async def _play(turn: Turn, sink: RunSink, heard: Heard, ledger: RunLedger) -> None:
    if turn.version is None:
        params = _model_params(turn)
        cut = turn.held is not None and not turn.held.covers_answer  # an answer that a budget may cut comes in pieces
        whole = sink.stream.quiet and not cut
        await run_model(target=turn.target, messages=turn.context, params=params, report=sink, whole=whole)
        return
    executable = await executable_of(turn.version)
    checkpointed = executable.template.framework == "langgraph"
    if checkpointed and turn.fence > 1 and turn.resume is None:
        await forget(thread_of(turn.run.tenant_id, turn.run.id), keep_journal=True)  # the graph begins anew
    produced = executable.run(
        report=sink,
        messages=turn.context,
        params=turn.params,
        client_tools=turn.client_tools,
        target=turn.target,
        toolsets=turn.toolsets,
        run_id=turn.run.id,
        session_id=turn.run.session_id,
        person=turn.run.person,
        checkpointed=checkpointed,
        resume=turn.resume,
        heard=heard,
        make_toolbox=partial(Toolbox, ledger=ledger),
        answers=() if checkpointed else turn.answers,  # a graph has its own ways to know them
        metadata=text_pairs(turn.run.request.get("metadata", {})),
        attempt=turn.fence,
    )
    with agent_run(AgentRun(ledger, (turn.version.agent.slug,))):
        async with aclosing(produced) as told:
            async for event in told:
                await sink.template_event(event)


def _model_params(turn: Turn) -> dict[str, Any]:
    tools = turn.client_tools
    return {**turn.params, **({"tools": tools} if tools else {})}


async def _give_up(here: Process, turn: Turn, stream: RunStream, meter: RunMeter) -> None:
    """All that was said and used is stored, then any process may have the run."""
    try:
        async with asyncio.timeout(5):
            await here.writer.flushed(stream)
            await meter.keep()
            if not stream.lost:
                await in_db_thread(turn_give_up, run=turn.run, fence=turn.fence)
                here.writer.tell("d", turn.run.id)
    except (TimeoutError, DatabaseError):
        logger.warning("A run is not given up; its lease will end", extra={"run_id": str(turn.run.id)})


async def _finish(
    here: Process, turn: Turn, stream: RunStream, sink: RunSink, meter: RunMeter, error: ApplicationError | None
) -> None:
    """Store the end, then tell it: who has seen the terminal event finds everything in the database."""
    partial = sink.partial()
    sink.close()
    await here.writer.settled(stream)
    if stream.lost:
        await meter.keep()
        return
    told = stream.rest()
    try:
        told.append(ending.terminal_event(turn, stream.stored + len(told) + 1, sink, meter, error))
        finished = await ending.store(turn, ending.outcome_of(sink, meter, error, partial), told, meter)
    except Exception:
        logger.exception("A run's end could not be stored", extra={"run_id": str(turn.run.id)})
        told, finished = await ending.store_failure(turn, stream, meter)
    if finished is None:
        await meter.keep()
    else:
        if error is not None and not isinstance(error, RunCancelled):
            logger.warning("A run failed", extra={"run_id": str(turn.run.id), "code": error.code})
        here.live.pop(turn.run.id, None)
        here.hub.deliver(turn.run.id, told)
        _ended(here, turn.run.tenant_id, turn.run.id, finished)
