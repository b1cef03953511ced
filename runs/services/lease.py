"""The lease of a run: who runs it. A row exists as long as the run is not finished."""

from datetime import date
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

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
    INSERT INTO run_lease (run_id, tenant_id, day, status, owner, fence, last_seq, lease_until)
    VALUES (%s, %s, %s, %s, %s, %s, 0,
        CASE WHEN %s THEN clock_timestamp() + make_interval(secs => %s) ELSE '9999-12-31' END)
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
_END = "DELETE FROM run_lease WHERE run_id = %s AND fence = %s AND last_seq = %s RETURNING watched_until > now()"
_RELEASE = "UPDATE run_lease SET lease_until = 'epoch', owner = NULL WHERE run_id = %s AND fence = %s"
_DUE = "UPDATE run_lease SET lease_until = 'epoch' WHERE run_id = %s AND status = 'queued'"


class Claim(NamedTuple):
    """`lost` says that the process before did not give the run up willingly."""

    fence: int
    last_seq: int
    cancel_requested: bool
    lost: bool


def lease_create(run: Run, owner: UUID | None) -> None:
    """With an owner the run is running and belongs to it; without, it is queued and nobody may claim it yet."""
    _ensure_day(run.day)
    running = owner is not None
    status = Run.Status.RUNNING if running else Run.Status.QUEUED
    fence = 1 if running else 0
    given: list[Any] = [run.id, run.tenant_id, run.day, status, owner, fence, running, settings.RUN_LEASE_SECONDS]
    with connection.cursor() as cursor:
        cursor.execute(_CREATE, given)


def lease_claim(run: Run, owner: UUID) -> Claim | None:
    """Take the run over; None when somebody has it, it waits for its turn, or it is finished."""
    seconds = settings.RUN_LEASE_SECONDS
    found = _one(_CLAIM, [owner, seconds, run.id, seconds])
    return Claim(*found) if found else None


def lease_end(run: Run, *, fence: int, after: int) -> bool | None:
    """The run is finished: do other processes follow it? None when it is not ours, or is not at the seq `after`."""
    ended = _one(_END, [run.id, fence, after])
    return bool(ended[0]) if ended else None


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
