"""The ends of calls that must not be lost, whatever becomes of the caller."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from llm.calls import CallOutcome, Meter, MeteredCall
from llm.targets import ModelTarget
from llm.wire import ChatRequest

logger = logging.getLogger(__name__)

_under_way: set[asyncio.Task[Any]] = set()


async def open_metered(meter: Meter, target: ModelTarget, request: ChatRequest) -> MeteredCall:
    """Raises what the meter raises. For a caller that is cancelled meanwhile, what is opened is closed."""
    call = meter.at_once(target, request)
    if call is not None:
        return call
    opening = _kept(meter.open(target, request))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        _kept(_close_unused(opening))
        raise


def close(metered: MeteredCall, outcome: CallOutcome) -> None:
    """What it raises is logged: the answer has been said."""
    try:
        metered.close(outcome)
    except Exception:
        logger.exception("What a model call leaves behind was not kept")


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, without the caller. What it raises is logged."""
    _kept(_logged(work))


async def drain(seconds: float) -> None:
    """Before the running loop ends: wait for what is still to be settled."""
    loop = asyncio.get_running_loop()
    if left := [task for task in _under_way if task.get_loop() is loop]:
        await asyncio.wait(left, timeout=seconds)


def _kept(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return task


async def _close_unused(opening: asyncio.Task[MeteredCall]) -> None:
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        close(opening.result(), CallOutcome(None, sent=False))


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # nobody waits for it
        logger.exception("What a model call leaves behind was not kept")
