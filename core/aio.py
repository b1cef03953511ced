"""The one crossing from async code to the database, and tasks that belong to nobody's request."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=settings.DATABASE_POOL_SIZE, thread_name_prefix="db")


def return_connections() -> None:
    """Give this thread's connections back to the pool, unless a transaction (a test's) holds them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _unit(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    try:
        return function(*args, **kwargs)
    finally:
        return_connections()


async def in_db_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one short unit of database work in a thread, with the caller's context, and return its connection after it.

    There are as many threads as pooled connections, so that none waits for a connection while holding a thread.
    """
    return await _in_thread(partial(_unit, function, *args, **kwargs))


async def _in_thread(unit: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, copy_context().run, unit)


def detached(work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
    """A task outside the caller's context: it knows of no request and no tenant."""
    return asyncio.create_task(work, name=name, context=Context())
