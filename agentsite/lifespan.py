"""Start and end of a server process (uvicorn; daphne has no lifespan and does without the warm-up)."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

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
                await asyncio.to_thread(warm_up)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await runner.shut_down(GRACE_SECONDS)
                await stop_providers()
                await send({"type": "lifespan.shutdown.complete"})
                return


def warm_up() -> None:
    """Load what the first request would wait for, then take what lives for ever out of the collector's sight."""
    import django.urls

    django.urls.get_resolver().url_patterns  # noqa: B018 imports every view
    registry.health()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
