"""Start and end of a server process (uvicorn; daphne has no lifespan, does without the warm-up, and meets an unsafe
database at its first statement).
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from llm.providers import shut_down as stop_providers
from runs import runner
from templates_app.registry import registry

logger = logging.getLogger(__name__)
GRACE_SECONDS = 5.0


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
                await send(await asyncio.to_thread(_start))
            elif message["type"] == "lifespan.shutdown":
                await runner.shut_down(GRACE_SECONDS)
                await stop_providers()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _start() -> dict[str, str]:
    """The answer to the server, which ends when the start failed."""
    try:
        ask_database()
    except ImproperlyConfigured as error:
        return {"type": "lifespan.startup.failed", "message": str(error)}
    warm_up()
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
