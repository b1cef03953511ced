"""LangGraph's checkpoints of runs, in tables under row-level security (docs/adr/002-tenancy.md).

A thread is one run's, `"<tenant_id>:<run_id>"`. The tables are used by LangGraph's own saver over a pool of its own,
since that saver is asynchronous and Django's connections are not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any
from uuid import UUID

import psycopg
from django.db import connections
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from core.errors import Unavailable
from core.tenant import current_tenant

POOL_SIZE = 4  # connections of an event loop; one is held for some milliseconds per checkpoint, never while a node runs
# Seconds for a read or write, the wait for a connection included; psycopg may take 10 more to give one up.
TIMEOUT = 10.0
IDLE = 60.0  # seconds after which an unused connection is closed
_DJANGOS_OWN = ("cursor_factory", "context")
CHECKPOINT_TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
# Rows of no checkpoint, by step and attempt: they outlive the checkpoints of an attempt, and go with the thread.
_JOURNAL = "journal"
_WRITE = """
    INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)
    VALUES (%s, %s, '', %s, %s, 'step', 'json', %s)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET blob = EXCLUDED.blob
"""
_READ = """
    SELECT DISTINCT ON (task_id) task_id AS step, blob FROM checkpoint_writes
    WHERE thread_id = %s AND checkpoint_ns = %s ORDER BY task_id, idx DESC
"""


def thread_of(tenant_id: UUID, run_id: UUID) -> str:
    """The tables refuse a thread that does not begin with the current tenant."""
    return f"{tenant_id}:{run_id}"


async def run_saver() -> Any:
    """LangGraph's saver for one run; each has a lock of its own, so that runs wait for the pool only.

    The first call imports it. It works for the tenant of the task that calls it: without one nothing can be read or
    written. It raises Unavailable when the database does not answer.
    """
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    return AsyncPostgresSaver(await _pool())


async def stored_checkpoints(thread: str) -> list[str]:
    """The ids of the checkpoints that are stored of the whole graph, the last one last. Raises Unavailable."""
    query = "SELECT checkpoint_id AS id FROM checkpoints WHERE thread_id = %s AND checkpoint_ns = '' ORDER BY 1"
    async with (await _pool()).connection() as connection:
        rows = await (await connection.execute(query, [thread])).fetchall()
    return [row["id"] for row in rows]


async def forget(thread: str, *, keep_journal: bool = False) -> None:
    """Delete all checkpoints of a run, once nothing of it is under way. Raises Unavailable.

    `keep_journal`: another attempt begins without a checkpoint, and with what its steps have done.
    """
    kept = f" AND checkpoint_ns <> '{_JOURNAL}'" if keep_journal else ""
    async with (await _pool()).connection() as connection:
        for table in CHECKPOINT_TABLES:
            await connection.execute(f"DELETE FROM {table} WHERE thread_id = %s{kept}", [thread])  # noqa: S608


async def journal_write(thread: str, attempt: int, step: str, said: bytes) -> None:
    """What a step has done so far, in place of what the attempt wrote before. Raises Unavailable."""
    async with (await _pool()).connection() as connection:
        await connection.execute(_WRITE, [thread, _JOURNAL, step, attempt, said])


async def journal_read(thread: str) -> dict[str, bytes]:
    """By step, what the last attempt that wrote of it wrote: one that lost the run may have written since. Raises
    Unavailable.
    """
    async with (await _pool()).connection() as connection:
        rows = await (await connection.execute(_READ, [thread, _JOURNAL])).fetchall()
    return {row["step"]: bytes(row["blob"]) for row in rows}


class _TenantPool(AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]):
    """Lends a connection for one transaction, under the tenant of the task that asks.

    The tenant is set for that transaction only: none is left on a connection that comes back, nor on one that a
    transaction pooler lends to somebody else.
    """

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        try:
            async with asyncio.timeout(TIMEOUT), super().connection(timeout) as lent, lent.transaction():
                await lent.execute("SELECT set_config('app.tenant_id', %s, true)", [str(current_tenant() or "")])
                yield lent
        except (psycopg.OperationalError, TimeoutError) as error:
            message = "The run's checkpoints cannot be stored now."
            raise Unavailable(message, code="database_unavailable", retry_after=1) from error


_pools: dict[asyncio.AbstractEventLoop, tuple[asyncio.Future[_TenantPool], asyncio.Task[None]]] = {}


async def _pool() -> _TenantPool:
    """The running loop's pool. It opens in an empty context: its workers would keep that of the first run for ever."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        opened: asyncio.Future[_TenantPool] = loop.create_future()
        _pools[loop] = opened, loop.create_task(_keep(opened), name="checkpoint-pool", context=Context())
    return await asyncio.shield(_pools[loop][0])


async def _keep(opened: asyncio.Future[_TenantPool]) -> None:
    """Ends with the loop, which cancels its tasks. A worker that is about to connect ignores that until it is told."""
    pool = _TenantPool(
        kwargs=_parameters,
        min_size=0,
        max_size=POOL_SIZE,
        max_idle=IDLE,
        timeout=TIMEOUT,
        reconnect_timeout=TIMEOUT,
        num_workers=1,
        open=False,
    )
    await pool.open()
    opened.set_result(pool)
    try:
        await asyncio.Event().wait()
    finally:
        del _pools[asyncio.get_running_loop()]
        await pool.close()


def _parameters() -> dict[str, Any]:
    """Django's own connection to the tenants' database, as the saver wants it."""
    given = connections["default"].get_connection_params()
    ours = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
    return {**ours, "autocommit": True, "row_factory": dict_row}
