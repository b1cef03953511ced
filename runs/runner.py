"""Runs turns as tasks of this process, independent of the connection that asked for them."""

import asyncio
import contextvars
import logging
from contextlib import aclosing
from typing import Any
from uuid import UUID

from django.conf import settings

from agents.executable import executable_for, run_model
from core.aio import in_db_thread
from core.errors import ApplicationError, RateLimited, TimedOut, Unavailable
from core.tenant import tenant_context
from runs import events
from runs.exceptions import RunCancelled
from runs.models import Run
from runs.selectors import run_get
from runs.services import Outcome, Turn, finish_turn, run_cancel_request
from runs.sink import RunSink
from runs.stream import RunStream, live
from tenants.principal import Principal

logger = logging.getLogger(__name__)
_tasks: dict[UUID, asyncio.Task[None]] = {}
_cancelled: set[UUID] = set()


def refuse_overload() -> None:
    """Raises RateLimited before anything is written when this process has its fill of runs."""
    if len(_tasks) >= settings.MAX_CONCURRENT_RUNS:
        message = (
            f"This server runs {settings.MAX_CONCURRENT_RUNS} turns at once; MAX_CONCURRENT_RUNS raises this limit."
        )
        raise RateLimited(message, code="too_many_runs", retry_after=1)


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
    """Stop a run of this process: its model call is closed at once. False when it is not running here."""
    task = _tasks.get(run_id)
    if task is None or task.done():
        return False
    _cancelled.add(run_id)
    task.cancel()
    return True


async def stop(*, actor: Principal, ref: str) -> Run:
    """The run as it is once the stop has taken effect."""
    run = await in_db_thread(run_cancel_request, actor=actor, ref=ref)
    stream = live.get(run.id)
    if stream is not None and cancel(run.id):
        await stream.ended()
    return await in_db_thread(run_get, actor=actor, ref=str(run.id))


async def shut_down(grace: float) -> None:
    """Let the runs end by themselves for `grace` seconds, then stop them; each ends with its events stored."""
    if _tasks:
        await asyncio.wait(_tasks.values(), timeout=grace)
    for task in list(_tasks.values()):
        task.cancel()
    if _tasks:
        await asyncio.wait(list(_tasks.values()), timeout=10)


async def _run(turn: Turn, stream: RunStream) -> None:
    sink = RunSink(stream)
    with tenant_context(turn.run.tenant_id):
        error = await _execute(turn, sink)
        try:
            await asyncio.shield(_finish(turn, stream, sink, error))
        finally:
            live.remove(stream)
            _cancelled.discard(turn.run.id)


async def _execute(turn: Turn, sink: RunSink) -> ApplicationError | None:
    """Runs the turn into the sink; the error with which it ended, if it did."""
    try:
        async with asyncio.timeout(settings.RUN_TIMEOUT):
            await _play(turn, sink)
    except asyncio.CancelledError:
        if turn.run.id in _cancelled:
            return RunCancelled("The run was cancelled.")
        return Unavailable("The server stopped during the run.", code="server_stopping")
    except TimeoutError:
        message = f"The run exceeded {settings.RUN_TIMEOUT:g} s; RUN_TIMEOUT raises this limit."
        return TimedOut(message, code="run_timeout")
    except ApplicationError as error:
        return error
    except Exception:
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
    partial = sink.partial()
    sink.close()
    last = _terminal_event(turn, stream, sink, error)
    outcome = _outcome(sink, error, partial)
    try:
        await in_db_thread(finish_turn, turn=turn, outcome=outcome, events=[*stream.events, last])
    except Exception:
        logger.exception("A run's end could not be stored", extra={"run_id": str(turn.run.id)})
        error = Unavailable("The answer could not be stored.", code="storage_failed")
        last = stream.prepare("RUN_ERROR", {"message": error.message, "code": error.code})
    stream.error = error
    stream.deliver(last)


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
