"""Start and end of a server process (uvicorn; daphne has no lifespan, does without the warm-up, and meets an unsafe
database at its first statement).
"""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from llm.door import settling
from llm.providers import shut_down as stop_providers
from runs import runner
from templates_app import reloading
from templates_app.registry import registry

logger = logging.getLogger(__name__)
GRACE_SECONDS = 2.0  # for runs under way; less than the server's own grace for its connections
SETTLE_SECONDS = 5.0  # for the records of model calls that have ended
_draining: set[asyncio.Task[None]] = set()


class Lifespan:
    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                drain_on_signals()
                await send(await asyncio.to_thread(_start))
            elif message["type"] == "lifespan.shutdown":
                reloading.stop()
                await runner.shut_down(0)
                await settling.drain(SETTLE_SECONDS)
                await stop_providers()
                await send({"type": "lifespan.shutdown.complete"})
                return


def drain_on_signals() -> None:
    """At the first signal new runs are refused and the readiness probe fails; the server hears of it after the drain.

    So whoever balances the load has time to look elsewhere, and the clients of runs are told where these go on. A
    second signal reaches the server at once. The server's own handlers stay.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _draining_first(loop, signal.getsignal(number)))


def _draining_first(loop: asyncio.AbstractEventLoop, before: Any) -> Callable[[int, Any], None]:
    def handle(number: int, frame: Any) -> None:
        end = partial(before, number, frame) if callable(before) else partial(os.kill, os.getpid(), number)
        if runner.is_stopping():
            end()
        else:
            loop.call_soon_threadsafe(_drain, end)

    return handle


def _drain(end: Callable[[], object]) -> None:
    task = asyncio.ensure_future(runner.shut_down(GRACE_SECONDS))
    _draining.add(task)
    task.add_done_callback(_draining.discard)
    task.add_done_callback(lambda _: end())


def _start() -> dict[str, str]:
    """The answer to the server, which ends when the start failed."""
    try:
        ask_database()
    except ImproperlyConfigured as error:
        return {"type": "lifespan.startup.failed", "message": str(error)}
    warm_up()
    reloading.start()
    return {"type": "lifespan.startup.complete"}


def ask_database() -> None:
    """Raises ImproperlyConfigured when it does not keep tenants apart; one that is away may come back."""
    try:
        connection.ensure_connection()
    except OperationalError:
        logger.warning("The database does not answer", exc_info=True)
    finally:
        connection.close()


def warm_up() -> None:
    """Load what the first request would wait for, then take what lives for ever out of the collector's sight."""
    import django.urls

    django.urls.get_resolver().url_patterns  # noqa: B018 imports every view
    registry.health()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
