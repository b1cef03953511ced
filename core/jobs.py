"""Background work: functions registered by name, enqueued in the caller's transaction, run by `manage.py worker`.

A job runs in the tenant that it was enqueued for; a platform job has none. Write every job so that it is safe to run
twice, even at the same time: a job whose worker dies, or ends before the job does, is started again. A job that raises
is not; it fails, as one does whose tenant is gone meanwhile. No order is promised.
The engine is Procrastinate, on the same PostgreSQL.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.db import connection, transaction
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from core.tenant import current_tenant, tenant_context

Queue = Literal["default", "runs"]
Arguments = dict[str, Any] | None
F = TypeVar("F", bound=Callable[..., Any])

MAX_RESTARTS = 5  # of one job; then it ends as failed (worker killed) or aborted (worker stopped)
_WHEN_STOPPED = RetryStrategy(max_attempts=MAX_RESTARTS, retry_exceptions=[asyncio.CancelledError])  # type: ignore[list-item]

STEP = 20  # waiting jobs of a tenant that cost it one degree of priority
_COUNTED = 100 * STEP  # no backlog counts for more, so that enqueuing stays cheap however long it is
_TICK_PRIORITY = 1  # before every tenant's: the rescue of jobs must not wait behind a backlog
_WAITING = """
    SELECT count(*) FROM (
        SELECT FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = %s AND args ->> 'tenant_id' = %s LIMIT %s
    ) AS waiting
"""

_platform: set[str] = set()


def job(name: str, *, platform: bool = False, cron: str | None = None, queue: Queue = "default") -> Callable[[F], F]:
    """Register a job, in an app's `tasks.py`. `cron` makes a platform job run by itself: UTC, a sixth field is seconds.

    A plain function runs in a thread. An `async def` runs in the worker's event loop, where hundreds may wait at once:
    it must not block, and reaches the database by `core.aio.in_db_thread`.
    """
    if cron and not platform:
        raise ValueError(f"Job {name} has a schedule but no tenant: declare it platform=True.")

    def register(function: F) -> F:
        if platform:
            _platform.add(name)
        task = app.task(name=name, queue=queue, retry=_WHEN_STOPPED)(_in_tenant(name, function))
        if cron:
            app.periodic(cron=cron, queueing_lock=name, priority=_TICK_PRIORITY)(task)
        return function

    return register


def enqueue(name: str, *, once: str | None = None, at: datetime | None = None, **arguments: Any) -> None:
    """Queue a job for the current tenant, in the current transaction. `arguments` must be JSON.

    `at` is when it starts at the earliest; a job that failed for a reason that passes may so queue itself again.

    `once` names what the job is for: while one of that name waits, in the same tenant, this does nothing. It waits for
    another transaction that has just enqueued the same. Raises KeyError for a job that nobody registered.
    """
    task = app.tasks[name]
    tenant_id = None if name in _platform else current_tenant()
    if tenant_id is None and name not in _platform:
        raise RuntimeError(f"Job {name} needs a tenant.")
    lock = None if once is None else f"{name}:{tenant_id}:{once}"
    priority = _priority(tenant_id, task.queue) if tenant_id else 0
    with suppress(AlreadyEnqueued), transaction.atomic(savepoint=lock is not None):
        waiting = task.configure(queueing_lock=lock, priority=priority, schedule_at=at)
        waiting.defer(tenant_id=str(tenant_id) if tenant_id else None, arguments=arguments)


def _priority(tenant_id: UUID, queue: str) -> int:
    """The more a tenant has waiting, the later its next job: a big backlog lets the others pass.

    Never by queue locks, which made small tenants wait seven times as long instead of a fifth.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [queue, str(tenant_id), _COUNTED])
        (waiting,) = cursor.fetchone()
    return -(int(waiting) // STEP)


def _in_tenant(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The task that enters the tenant and calls the job; one of a schedule is given a `timestamp` alone."""

    def run(tenant_id: str | None = None, arguments: Arguments = None, timestamp: int | None = None) -> None:
        with _tenant(name, tenant_id):
            function(**arguments or {})

    async def run_async(
        tenant_id: str | None = None, arguments: Arguments = None, timestamp: int | None = None
    ) -> None:
        with _tenant(name, tenant_id):
            await function(**arguments or {})

    return run_async if inspect.iscoroutinefunction(function) else run


@contextmanager
def _tenant(name: str, tenant_id: str | None) -> Iterator[None]:
    if tenant_id is None and name not in _platform:
        raise RuntimeError(f"Job {name} came without a tenant.")
    with tenant_context(UUID(tenant_id) if tenant_id else None):
        yield
