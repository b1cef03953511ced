"""The lease of a run: who runs it. A row exists as long as the run is not finished."""

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection, transaction

from core.rows import ask, send
from runs.events import Event, make_event
from runs.models import Run

_known_days: set[date] = set()  # whose partition this process has seen

_APPEND = """
    WITH moved AS (UPDATE run_lease SET last_seq = %s WHERE run_id = %s)
    INSERT INTO run_event (at_ms, day, tenant_id, run_id, seq, fence, type, data)
    SELECT (told -> 1)::bigint, %s, %s, %s, %s + number, %s, told ->> 0, told -> 2
    FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS event (told, number)
"""
_CREATE = """
    WITH asked AS MATERIALIZED (
        SELECT * FROM jsonb_to_record($1::jsonb) AS asked (
            run uuid, tenant uuid, day date, status text, owner uuid, fence int, last int, seconds float, events jsonb)
    ), made AS (
        INSERT INTO run_lease (run_id, tenant_id, day, status, owner, fence, last_seq, lease_until)
        SELECT run, tenant, day, status, owner, fence, last,
            CASE WHEN owner IS NULL THEN '9999-12-31' ELSE clock_timestamp() + make_interval(secs => seconds) END
        FROM asked
    )
    INSERT INTO run_event (at_ms, day, tenant_id, run_id, seq, fence, type, data)
    SELECT (told -> 1)::bigint, day, tenant, run, number, fence, told ->> 0, told -> 2
    FROM asked, jsonb_array_elements(events) WITH ORDINALITY AS event (told, number)
"""
# What another process lost may be claimed; but after a start of the database every owner gets the time to come back.
_CLAIM = """
    UPDATE run_lease lease
    SET fence = lease.fence + 1, owner = %s, status = 'running',
        lease_until = clock_timestamp() + make_interval(secs => %s)
    FROM (SELECT run_id, lease_until FROM run_lease WHERE run_id = %s FOR UPDATE) AS before
    WHERE lease.run_id = before.run_id AND before.lease_until < now() AND (
        before.lease_until = 'epoch' OR pg_postmaster_start_time() + make_interval(secs => %s) < now())
    RETURNING lease.fence, lease.last_seq, lease.cancel_requested, before.lease_until > 'epoch'
"""
_END = """
    WITH asked AS MATERIALIZED (
        SELECT * FROM jsonb_to_record($1::jsonb) AS asked (
            run uuid, tenant uuid, day date, fence int, after int, events jsonb)
    ), locked AS MATERIALIZED (
        SELECT run.id, run.status, agent_version_id FROM run JOIN asked ON run.tenant_id = tenant AND run.id = asked.run
        FOR UPDATE OF run
    ), ended AS (
        DELETE FROM run_lease lease USING asked, locked
        WHERE lease.run_id = locked.id AND lease.fence = asked.fence AND last_seq = after
        RETURNING watched_until > now() AS watched
    ), stored AS (
        INSERT INTO run_event (at_ms, day, tenant_id, run_id, seq, fence, type, data)
        SELECT (told -> 1)::bigint, day, tenant, run, after + number, fence, told ->> 0, told -> 2
        FROM ended, asked, jsonb_array_elements(events) WITH ORDINALITY AS event (told, number)
    )
    SELECT status, agent_version_id, (SELECT watched FROM ended) FROM locked
"""
_RELEASE = "UPDATE run_lease SET lease_until = 'epoch', owner = NULL WHERE run_id = %s AND fence = %s"
_DUE = "UPDATE run_lease SET lease_until = 'epoch' WHERE run_id = %s AND status = 'queued'"


class Claim(NamedTuple):
    """`lost` says that the process before did not give the run up willingly."""

    fence: int
    last_seq: int
    cancel_requested: bool
    lost: bool


class Ended(NamedTuple):
    """The run as it was, locked until the transaction ends, and whether other processes follow it.

    `watched` is None when the run is not ours, or its events do not go on where they should: nothing is stored.
    """

    status: str
    agent_version_id: UUID | None
    watched: bool | None


def lease_create(run: Run, owner: UUID | None, events: Sequence[Event] = ()) -> None:
    """With an owner the run is running, belongs to it and has told `events`, its first.

    Without one it is queued, and nobody may claim it yet.
    """
    _ensure_day(run.day)
    given = {
        "status": Run.Status.QUEUED if owner is None else Run.Status.RUNNING,
        "owner": owner,
        "fence": 0 if owner is None else 1,
        "last": len(events),
        "seconds": settings.RUN_LEASE_SECONDS,
    }
    send(_CREATE, _asked(run, events, **given))


def lease_claim(run: Run, owner: UUID) -> Claim | None:
    """Take the run over; None when somebody has it, it waits for its turn, or it is finished."""
    seconds = settings.RUN_LEASE_SECONDS
    found = _one(_CLAIM, [owner, seconds, run.id, seconds])
    return Claim(*found) if found else None


def lease_end(run: Run, *, fence: int, after: int, events: Sequence[Event]) -> Ended | None:
    """The run is finished, with these last events that follow the seq `after`. None for a run that was deleted."""
    found = ask(_END, _asked(run, events, fence=fence, after=after))
    return Ended(*found[0]) if found else None


def lease_release(*, run_id: UUID, fence: int) -> None:
    """Give the run up, so that any process may claim it at once."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, [run_id, fence])


def lease_make_due(run_id: UUID) -> None:
    """It is the queued run's turn: any process may claim it."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [run_id])


def events_append(run: Run, *, fence: int, after: int, events: list[Event]) -> None:
    """Store events in the caller's transaction and move the lease on; the caller has the lease, or just ended it."""
    sent = b"[%s]" % b",".join(event.row for event in events)
    given: list[Any] = [after + len(events), run.id, run.day, run.tenant_id, run.id, after, fence, sent.decode()]
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, given)


def event_append(run: Run, *, fence: int, after: int, type: str, fields: dict[str, Any]) -> Event:
    """As `events_append`, for one event that is made here."""
    event = make_event(after + 1, type, fields)
    events_append(run, fence=fence, after=after, events=[event])
    return event


def _asked(run: Run, events: Sequence[Event], **more: Any) -> str:
    """What `_CREATE` and `_END` are given."""
    told = orjson.Fragment(b"[%s]" % b",".join(event.row for event in events))
    return orjson.dumps({"run": run.id, "tenant": run.tenant_id, "day": run.day, "events": told, **more}).decode()


def _ensure_day(day: date) -> None:
    """The worker makes partitions ahead of time; this holds even when there was none for weeks."""
    if day in _known_days:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT run_event_add_day(%s)", [day])
    transaction.on_commit(partial(_known_days.add, day))


def _one(sql: str, arguments: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchone()
