"""Follow a run wherever it is: in this process as it happens, else from its stored events."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from django.conf import settings

from core.aio import in_db_thread
from core.tenant import tenant_context
from runs.events import Event
from runs.models import Run
from runs.selectors import event_list, run_get
from runs.stream import live
from tenants.principal import Principal

T = TypeVar("T")
POLL_SECONDS = 1.0


async def follow(*, actor: Principal, run: Run, after: int = 0) -> AsyncGenerator[Event | None, None]:
    """Every event with a higher `seq` than `after`, in order; ends with the run. None is a sign of life.

    A run of another process is stored as a whole when it ends; until then its row is asked once a second.
    """
    stream = live.get(run.id)
    if stream is not None and stream.tenant_id == actor.tenant_id:
        async with aclosing(stream.follow(after, idle=settings.HEARTBEAT_SECONDS)) as events:
            async for event in events:
                yield event
        return
    while not run.is_finished:
        yield None
        await asyncio.sleep(POLL_SECONDS)
        run = await _read(actor, run_get, ref=str(run.id))
    for stored in await _read(actor, event_list, run=run, after=after):
        yield stored


async def _read(actor: Principal, selector: Callable[..., T], **arguments: Any) -> T:
    """A response is streamed after its view has left the tenant: enter it for the read."""
    with tenant_context(actor.tenant_id):
        return await in_db_thread(selector, actor=actor, **arguments)
