"""The event log's own connection to the database, as the role `app_stream`; every statement serves many tenants.

The setting `app.tenant_ids` names them for the length of one transaction: a setting for each tenant in turn would cost
as much as all the rest (docs/adr/009-event-log.md).
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg
from django.conf import settings

from runs.events import Event, stored_event
from runs.stream import RunKey

CHANNEL = "agentsite"
LOCK_TIMEOUT = "100ms"
MAX_PAYLOAD = 7_900  # bytes of one notification

# Compare-and-set on the lease guards each run: a process that lost it, a gap or a repetition stores nothing.
_WRITE = """
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS asked (r uuid, f int, a int, b int, ev jsonb)
), held AS (
    UPDATE run_lease lease SET last_seq = asked.b
    FROM asked
    WHERE lease.run_id = asked.r AND lease.fence = asked.f AND lease.last_seq = asked.a
    RETURNING lease.run_id, lease.tenant_id, lease.day, lease.fence, lease.watched_until, lease.cancel_requested,
        asked.a, asked.ev
), stored AS (
    INSERT INTO run_event (at_ms, day, tenant_id, run_id, seq, fence, type, data)
    SELECT (told -> 1)::bigint, day, tenant_id, run_id, a + number, fence, told ->> 0, told -> 2
    FROM held, jsonb_array_elements(ev) WITH ORDINALITY AS event (told, number)
)
SELECT array_agg(run_id) FILTER (WHERE watched_until > now()), array_agg(run_id) FILTER (WHERE cancel_requested),
    CASE WHEN count(*) < %s THEN coalesce(array_agg(run_id), '{}') END
FROM held
"""
# While somebody holds a lease's row, the others are written without it. Locking them first costs more.
_WRITE_FREE = _WRITE.replace(
    "), held AS (",
    "), free AS (SELECT run_id FROM run_lease WHERE run_id IN (SELECT r FROM asked) FOR UPDATE SKIP LOCKED), held AS (",
).replace("WHERE lease.run_id = asked.r", "WHERE lease.run_id = asked.r AND lease.run_id IN (SELECT run_id FROM free)")
_RENEW = """
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS asked (r uuid, f int)
), free AS (
    SELECT run_id FROM run_lease WHERE run_id IN (SELECT r FROM asked) FOR UPDATE SKIP LOCKED
)
UPDATE run_lease lease SET lease_until = clock_timestamp() + make_interval(secs => %s)
FROM asked
WHERE lease.run_id = asked.r AND lease.fence = asked.f AND lease.run_id IN (SELECT run_id FROM free)
RETURNING run_id, cancel_requested
"""
_READ = """
SELECT asked.place, event.seq, event.at_ms, event.type, event.data::text
FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (r uuid, d date, a int)) WITH ORDINALITY AS asked (r, d, a, place),
LATERAL (
    SELECT seq, at_ms, type, data FROM run_event WHERE run_id = asked.r AND day = asked.d AND seq > asked.a
    ORDER BY seq LIMIT %s
) AS event
ORDER BY event.seq
"""
_LOOK = "SELECT run_id, fence, last_seq FROM run_lease WHERE run_id = ANY (%s)"
_WATCH = """
WITH free AS (
    SELECT run_id FROM run_lease WHERE run_id = ANY (%s) AND watched_until < now() + interval '10 s'
    FOR UPDATE SKIP LOCKED
), watched AS (
    UPDATE run_lease SET watched_until = now() + interval '15 s' WHERE run_id IN (SELECT run_id FROM free)
)
SELECT set_config('synchronous_commit', 'off', true)
"""


class Write(NamedTuple):
    """The events that follow the seq `after` of a run; `run` is its id as text."""

    key: RunKey
    run: str
    fence: int
    after: int
    events: Sequence[Event]

    @property
    def last(self) -> int:
        return self.after + len(self.events)

    def json(self) -> bytes:
        events = b",".join([event.row for event in self.events])
        head = f'{{"r":"{self.run}","f":{self.fence},"a":{self.after},"b":{self.last},"ev":['
        return head.encode() + events + b"]}"


class Written(NamedTuple):
    """Which runs other processes follow, and which shall stop; `held` are those that were stored, None for all."""

    watched: Sequence[UUID]
    cancelled: Sequence[UUID]
    held: Sequence[UUID] | None


class Place(NamedTuple):
    fence: int
    last_seq: int


def stream_parameters() -> dict[str, Any]:
    """psycopg's parameters for a connection of the event log; a server that went silent is given up after 10 s."""
    config = settings.STREAM_DATABASE
    given = {"host": config["HOST"], "port": config["PORT"], "user": config["USER"], "password": config["PASSWORD"]}
    options = {name: value for name, value in config["OPTIONS"].items() if name != "pool"}
    patience = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    known = {name: value for name, value in given.items() if value}
    options["options"] += f" -c lock_timeout={LOCK_TIMEOUT}"
    return {**known, **patience, **options, "dbname": config["NAME"], "autocommit": True}


class Store:
    """One connection, used by one statement at a time; it is made anew after a failure. Raises psycopg.Error."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._free = asyncio.Lock()

    async def write(self, writes: Sequence[Write], *, skip_locked: bool = False) -> Written:
        """Store the events of the runs whose lease this process holds.

        Raises LockNotAvailable after LOCK_TIMEOUT, but for rows that it shall skip.
        """
        asked = b"[%s]" % b",".join([write.json() for write in writes])
        arguments = [asked.decode(), len(writes)]
        sql = _WRITE_FREE if skip_locked else _WRITE
        ((watched, cancelled, held),) = await self._run((write.key for write in writes), sql, arguments)
        return Written(watched or (), cancelled or (), held)

    async def renew(self, held: Iterable[tuple[RunKey, int]]) -> dict[UUID, bool]:
        """Renew leases, given with their fences. The answer has those that were, with whether the run shall stop.

        One that is missing is another's, gone, or locked by somebody for a moment.
        """
        held = list(held)
        asked = ",".join(f'{{"r":"{key.run_id}","f":{fence}}}' for key, fence in held)
        rows = await self._run((key for key, _ in held), _RENEW, [f"[{asked}]", settings.RUN_LEASE_SECONDS])
        return dict(rows)

    async def look(self, keys: Collection[RunKey]) -> dict[UUID, Place]:
        """Who has the runs, and how far they are; one that is finished or gone is missing."""
        rows = await self._run(keys, _LOOK, [[key.run_id for key in keys]])
        return {run_id: Place(fence, last_seq) for run_id, fence, last_seq in rows}

    async def read(self, asked: Sequence[tuple[RunKey, int]], limit: int) -> dict[UUID, list[Event]]:
        """The first `limit` events of each run after the seq that goes with it; runs without news are missing."""
        runs = ",".join(f'{{"r":"{key.run_id}","d":"{key.day}","a":{after}}}' for key, after in asked)
        found: dict[int, list[Event]] = {}
        for place, seq, at, type, data in await self._run((key for key, _ in asked), _READ, [f"[{runs}]", limit]):
            found.setdefault(place, []).append(stored_event(seq, at, type, orjson.loads(data)))
        return {asked[place - 1][0].run_id: events for place, events in found.items()}

    async def watch(self, keys: Collection[RunKey]) -> None:
        """For 10 s at least, the processes that have these runs shall notify others; asked again once a second.

        A crash may undo it, and a locked lease is left out.
        """
        await self._run(keys, _WATCH, [[key.run_id for key in keys]])

    async def notify(self, payload: str) -> None:
        """Tell the listeners of all processes: in a transaction of its own, since a commit that notifies waits for the
        others that do. What is told need not outlive a crash.
        """
        statements = [
            ("BEGIN", None),
            ("SET LOCAL synchronous_commit = off", None),
            ("SELECT pg_notify(%s, %s)", [CHANNEL, payload]),
            ("COMMIT", None),
        ]
        await self._execute(statements)

    async def _run(self, keys: Iterable[RunKey], sql: str, arguments: list[Any]) -> list[Any]:
        return await self.for_tenants({key.tenant_id for key in keys}, sql, arguments)

    async def for_tenants(self, tenants: Collection[UUID], sql: str, arguments: Any) -> list[Any]:
        """The rows of a statement, of these tenants."""
        statements = [
            ("BEGIN", None),
            ("SELECT set_config('app.tenant_ids', %s, true)", [f"{{{','.join(map(str, tenants))}}}"]),
            (sql, arguments),
            ("COMMIT", None),
        ]
        return await (await self._execute(statements))[2].fetchall()

    async def _execute(self, statements: list[tuple[str, Any]]) -> list[psycopg.AsyncCursor[Any]]:
        async with self._free:
            connection = await self._connected()
            try:
                async with connection.pipeline():
                    return [await connection.execute(sql, given, prepare=self._prepare) for sql, given in statements]
            except psycopg.Error:
                await self._recover(connection)
                raise
            except BaseException:
                await self.close()
                raise

    @property
    def backend(self) -> int | None:
        """The process id of PostgreSQL behind the connection, by which notifications of our own are known."""
        connection = self._connection
        return None if connection is None or connection.closed else connection.info.backend_pid

    @property
    def _prepare(self) -> bool | None:
        return settings.TENANT_MODE == "session" or None

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(**stream_parameters())
        return self._connection

    async def _recover(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Leave the failed transaction; a connection that cannot is given up."""
        with suppress(psycopg.Error):
            if not connection.broken:
                await connection.execute("ROLLBACK")
                return
        await self.close()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def payloads(kind: str, run_ids: Iterable[UUID]) -> list[str]:
    """Notifications of `kind`, one letter, that name all the runs: `kind` and 32 hexadecimal digits each."""
    names = [run_id.hex for run_id in run_ids]
    most = MAX_PAYLOAD // 33
    return [f"{kind}{','.join(names[start : start + most])}" for start in range(0, len(names), most)]
