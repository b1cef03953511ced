"""The ends of calls that must not be lost, whatever becomes of the caller."""

import asyncio
import logging
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

from llm.calls import CallOutcome, Meter, MeteredCall
from llm.targets import ModelTarget
from llm.wire import ChatRequest

logger = logging.getLogger(__name__)

LONGEST = 1.0  # seconds that a caller waits for the end of its call to be kept
_under_way: set[asyncio.Future[Any]] = set()


async def open_metered(meter: Meter, target: ModelTarget, request: ChatRequest) -> MeteredCall:
    """Raises what the meter raises. For a caller that is cancelled meanwhile, what is opened is closed."""
    opening = _kept(meter.open(target, request))
    if opening.done():
        return opening.result()  # type: ignore[no-any-return]
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        _kept(_close_unused(opening))
        raise


async def settle(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end; wait for it for a moment only. What it raises is logged: the answer has been said."""
    settling = _kept(_logged(work))
    if not settling.done():
        await asyncio.wait({settling}, timeout=LONGEST)


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, without the caller. What it raises is logged."""
    _kept(_logged(work))


async def drain(seconds: float) -> None:
    """Before the running loop ends: wait for what is still to be settled."""
    loop = asyncio.get_running_loop()
    if left := [task for task in _under_way if task.get_loop() is loop]:
        await asyncio.wait(left, timeout=seconds)


def _kept(work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """Its first steps are taken at once: most work never waits, and needs no task."""
    ended = asyncio.get_running_loop().create_future()
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        ended.set_result(end.value)
    except Exception as error:
        ended.set_exception(error)
    else:
        ended = asyncio.create_task(_rest(work, waits_for))
        _under_way.add(ended)
        ended.add_done_callback(_under_way.discard)
    return ended


async def _rest(work: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _steps(work, waits_for)


@types.coroutine
def _steps(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """`yield from`, of a coroutine whose first step is taken."""
    while True:
        try:
            step = partial(work.send, (yield waits_for))
        except BaseException as error:
            step = partial(work.throw, error)
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value


async def _close_unused(opening: asyncio.Future[MeteredCall]) -> None:
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        await _logged(opening.result().close(CallOutcome(None)))


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # nobody waits for it
        logger.exception("What a model call leaves behind was not kept")
