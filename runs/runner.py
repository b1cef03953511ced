"""Runs turns as tasks of this process, independent of the connection that asked for them."""

import asyncio
import contextvars
import logging
from contextlib import aclosing
from threading import Event
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from agents.executable import executable_for, run_model
from core.aio import in_db_thread
from core.errors import ApplicationError, RateLimited, TimedOut, Unavailable
from core.tenant import tenant_context
from runs import events
from runs.exceptions import RunCancelled
from runs.models import Run
from runs.selectors import run_get
from runs.services import Outcome, Turn, TurnRequest, begin_turn, finish_turn, run_cancel_request, run_end_lost
from runs.sink import RunSink
from runs.stream import RunStream, live
from tenants.principal import Principal

logger = logging.getLogger(__name__)
_tasks: dict[UUID, asyncio.Task[None]] = {}
_stopping = Event()
_beginning: set[asyncio.Task[tuple[Turn, RunStream]]] = set()
_cancelled: set[UUID] = set()
_ending: set[UUID] = set()  # runs whose end is being stored: nothing stops them any more
STORE_AGAIN = (0.1, 1.0)  # seconds before another attempt to store a run's end


async def begin(*, actor: Principal, request: TurnRequest) -> tuple[Turn, RunStream]:
    """Begin a turn and run it. Raises RateLimited, before anything is written, when this process has its fill of runs.

    A caller that is cancelled meanwhile leaves no turn without its run: one with a session goes on, another is stopped.
    """
    _refuse_overload()
    task = asyncio.create_task(_begin(actor, request), name="begin-turn")
    _beginning.add(task)
    task.add_done_callback(_beginning.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_left_alone)
        raise


def _refuse_overload() -> None:
    if _stopping.is_set():
        raise Unavailable("The server is stopping; ask again in a moment.", code="server_stopping", retry_after=1)
    if len(_tasks) + len(_beginning) >= settings.MAX_CONCURRENT_RUNS:
        message = (
            f"This server runs {settings.MAX_CONCURRENT_RUNS} turns at once; MAX_CONCURRENT_RUNS raises this limit."
        )
        raise RateLimited(message, code="too_many_runs", retry_after=1)


async def _begin(actor: Principal, request: TurnRequest) -> tuple[Turn, RunStream]:
    turn = await in_db_thread(begin_turn, actor=actor, request=request)
    return turn, start(turn)


def _left_alone(task: asyncio.Task[tuple[Turn, RunStream]]) -> None:
    if not task.cancelled() and task.exception() is None:
        stop_if_alone(task.result()[1])


def stop_if_alone(stream: RunStream) -> None:
    """A run without a session has nobody but its caller who could read it: it ends with the caller's connection."""
    if stream.session_id is None:
        cancel(stream.run_id)


def start(turn: Turn) -> RunStream:
    """Begin to run a turn; the stream has all its events from the first."""
    run = turn.run
    session = turn.session
    thread_id = (session.external_id or str(session.id)) if session else str(run.id)
    stream = RunStream(run_id=run.id, tenant_id=run.tenant_id, session_id=run.session_id, thread_id=thread_id)
    stream.publish("RUN_STARTED", **events.run_started(thread_id, str(run.id)))
    live.add(stream)
    task = asyncio.create_task(_run(turn, stream), name=f"run-{run.id}", context=contextvars.Context())
    _tasks[run.id] = task
    task.add_done_callback(lambda _: _tasks.pop(run.id, None))
    return stream


def cancel(run_id: UUID) -> bool:
    """Stop a run of this process: its model call is closed at once. False when none is under way here."""
    task = _tasks.get(run_id)
    if task is None or task.done() or run_id in _ending:
        return False
    _cancelled.add(run_id)
    asyncio.get_running_loop().call_soon(_interrupt, run_id)  # a task that has not begun would end without its end
    return True


def _interrupt(run_id: UUID) -> None:
    task = _tasks.get(run_id)
    if task is not None and run_id not in _ending:
        task.cancel()


async def stop(*, actor: Principal, ref: str) -> Run:
    """The run as it is once the stop has taken effect."""
    run = await in_db_thread(run_cancel_request, actor=actor, ref=ref)
    stream = live.get(run.id)
    if stream is not None:
        cancel(run.id)
        await stream.ended()
    elif not run.is_finished:
        await in_db_thread(run_end_lost, actor=actor, run=run)
    return await in_db_thread(run_get, actor=actor, ref=str(run.id))


async def shut_down(grace: float) -> None:
    """Refuse new runs, let the others end for `grace` seconds, then stop them; each ends with its events stored."""
    _stopping.set()
    if _beginning:
        await asyncio.wait(_beginning, timeout=grace)
    if _tasks:
        await asyncio.wait(_tasks.values(), timeout=grace)
    for run_id in list(_tasks):
        _interrupt(run_id)
    if _tasks:
        await asyncio.wait(list(_tasks.values()), timeout=10)


async def _run(turn: Turn, stream: RunStream) -> None:
    sink = RunSink(stream)
    with tenant_context(turn.run.tenant_id):
        try:
            error = await _execute(turn, sink)
            _ending.add(turn.run.id)
            await asyncio.shield(_finish(turn, stream, sink, error))
        finally:
            live.remove(stream)
            _ending.discard(turn.run.id)
            _cancelled.discard(turn.run.id)


async def _execute(turn: Turn, sink: RunSink) -> ApplicationError | None:
    """Runs the turn into the sink; the error with which it ended, if it did."""
    try:
        async with asyncio.timeout(settings.RUN_TIMEOUT) as limit:
            await _play(turn, sink)
    except asyncio.CancelledError:
        if turn.run.id in _cancelled:
            return RunCancelled("The run was cancelled.")
        return Unavailable("The server stopped during the run.", code="server_stopping")
    except ApplicationError as error:
        return error
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            message = f"The run exceeded {settings.RUN_TIMEOUT:g} s; RUN_TIMEOUT raises this limit."
            return TimedOut(message, code="run_timeout")
        logger.exception("A run failed", extra={"run_id": str(turn.run.id)})
        return ApplicationError("The run failed on the server. The run id leads to its log.", code="run_failed")
    return None


async def _play(turn: Turn, sink: RunSink) -> None:
    request = turn.request
    if turn.version is None:
        await run_model(target=turn.target, messages=turn.context, params=_model_params(turn), report=sink)
        return
    produced = executable_for(turn.version).run(
        report=sink,
        messages=turn.context,
        params=request.params,
        client_tools=request.client_tools,
        target=turn.target,
        toolsets=turn.toolsets,
        run_id=turn.run.id,
        session_id=turn.run.session_id,
    )
    async with aclosing(produced) as told:
        async for event in told:
            await sink.template_event(event)


def _model_params(turn: Turn) -> dict[str, Any]:
    tools = turn.request.client_tools
    return {**turn.request.params, **({"tools": tools} if tools else {})}


async def _finish(turn: Turn, stream: RunStream, sink: RunSink, error: ApplicationError | None) -> None:
    """Store the end, then tell it: who has seen the terminal event finds everything in the database."""
    try:
        last = await _store(turn, stream, sink, error)
    except RunCancelled as ended:
        error = ended
        last = stream.prepare("RUN_ERROR", {"message": error.message, "code": error.code})
    except Exception:
        logger.exception("A run's end could not be stored", extra={"run_id": str(turn.run.id)})
        error = Unavailable("The answer could not be stored.", code="storage_failed")
        last = stream.prepare("RUN_ERROR", {"message": error.message, "code": error.code})
        await _store_failure(turn, error)
    stream.error = error
    stream.deliver(last)


async def _store(turn: Turn, stream: RunStream, sink: RunSink, error: ApplicationError | None) -> events.Event:
    """The terminal event, stored with all before it. A database that fails, or an agent that goes, is tried again."""
    partial = sink.partial()
    sink.close()
    last = _terminal_event(turn, stream, sink, error)
    outcome = _outcome(sink, error, partial)
    for wait in STORE_AGAIN:
        try:
            return await _store_once(turn, stream, outcome, last)
        except DatabaseError:
            await asyncio.sleep(wait)
    return await _store_once(turn, stream, outcome, last)


async def _store_once(turn: Turn, stream: RunStream, outcome: Outcome, last: events.Event) -> events.Event:
    """Raises RunCancelled when the row has ended meanwhile: somebody gave this process up for lost."""
    if not await in_db_thread(finish_turn, turn=turn, outcome=outcome, events=[*stream.events, last]):
        raise RunCancelled("The run was ended from outside.")
    return last


async def _store_failure(turn: Turn, error: ApplicationError) -> None:
    """The run ends as failed, with nothing of what it said."""
    outcome = Outcome(Run.Status.FAILED, [], None, error_code=error.code, error_message=error.message)
    try:
        await in_db_thread(finish_turn, turn=turn, outcome=outcome, events=[])
    except DatabaseError:
        logger.warning("A run stays open until it expires", extra={"run_id": str(turn.run.id)})


def _terminal_event(turn: Turn, stream: RunStream, sink: RunSink, error: ApplicationError | None) -> events.Event:
    if error is not None:
        return stream.prepare("RUN_ERROR", {"message": error.message, "code": error.code})
    prompt, completion = sink.tokens()
    fields = events.run_finished(
        stream.thread_id,
        str(turn.run.id),
        finish_reason=sink.finish_reason or "stop",
        model=turn.run.model,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
    return stream.prepare("RUN_FINISHED", fields)


def _outcome(sink: RunSink, error: ApplicationError | None, partial: dict[str, Any] | None) -> Outcome:
    status = Run.Status.SUCCEEDED
    if error is not None:
        status = Run.Status.CANCELLED if isinstance(error, RunCancelled) else Run.Status.FAILED
    prompt, completion = sink.tokens()
    return Outcome(
        status=status,
        messages=sink.messages,
        partial=partial,
        finish_reason=sink.finish_reason,
        error_code=error.code if error else "",
        error_message=error.message if error else "",
        prompt_tokens=prompt,
        completion_tokens=completion,
        first_token_ms=sink.first_token_ms,
    )
