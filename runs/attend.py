"""A run's events for its caller."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.conf import settings

from runs import runner
from runs.events import Event
from runs.follow import follow
from runs.models import Run


async def attend(run: Run) -> AsyncGenerator[Event | None, None]:
    """All events, and None for a heartbeat; with its caller ends a run that nobody can come back for."""
    try:
        async with aclosing(follow(run.key, idle=settings.HEARTBEAT_SECONDS)) as events:
            async for event in events:
                yield event
    finally:
        await runner.leave(run)
