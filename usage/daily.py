"""Daily sums of the records, exact without a lock: a day counts while it sums up as many calls as there are records."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, connections, transaction

from usage.models import UsageRecord

KEPT_DAYS = 40  # back from today, that `roll_up` looks after; a record comes minutes after its call, at most a day
KEPT = (
    "agent, agent_id, agent_version, actor_kind, actor_id, provider, model, key_id, route, variant, certainty, "
    "error_code, cached"
)
_FROM_CACHE = f"cached AND NOT starts_with(reason, '{UsageRecord.JOINED}')"
RECORD_SUMS = {
    "calls": "count(*)",
    "failed": "count(*) FILTER (WHERE error_code NOT IN ('', 'cancelled'))",
    "hits": f"count(*) FILTER (WHERE {_FROM_CACHE})",
    "unknown": "count(*) - count(cost)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost": "coalesce(sum(cost), 0)",
    "charge": "coalesce(sum(charge), 0)",
    "saved": f"coalesce(sum(saved) FILTER (WHERE {_FROM_CACHE}), 0)",
    "first_token_ms": "coalesce(string_agg(int4send(first_token_ms), '') FILTER (WHERE NOT cached), '')",
    "total_ms": "coalesce(string_agg(int4send(total_ms), '') FILTER (WHERE NOT cached), '')",
}
SUMS_OF_SUMS = {
    name: f"coalesce(string_agg({name}, ''), '')" if name.endswith("_ms") else f"coalesce(sum({name}), 0)"
    for name in RECORD_SUMS
}
DAY_SUMS = {
    **SUMS_OF_SUMS,
    "failed": "coalesce(sum(calls) FILTER (WHERE error_code NOT IN ('', 'cancelled')), 0)",
}
_STORED = [name for name in RECORD_SUMS if name != "failed"]
_COUNT_RECORDS = """
    SELECT (created_at AT TIME ZONE 'UTC')::date, count(*) FROM usage_record
    WHERE tenant_id = %s AND created_at >= %s AND created_at < %s GROUP BY 1
"""
_COUNT_SUMMED = """
    SELECT day, sum(calls) FROM usage_day WHERE tenant_id = %s AND day >= %s::date AND day < %s::date GROUP BY day
"""
_ROLL_UP = f"""
    INSERT INTO usage_day (id, tenant_id, created_at, day, {KEPT}, actor_label, {", ".join(_STORED)})
    SELECT gen_random_uuid(), tenant_id, now(), %s::date, {KEPT}, max(actor_label),
        {", ".join(RECORD_SUMS[name] for name in _STORED)}
    FROM usage_record WHERE tenant_id = %s AND created_at >= %s AND created_at < %s GROUP BY tenant_id, {KEPT}
"""  # noqa: S608


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def whole_days(start: datetime, end: datetime) -> tuple[date, date]:
    """The first day (UTC) that lies wholly in the time, and the one after the last; the first is later for none."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    first = start.date() if start == midnight(start.date()) else start.date() + timedelta(days=1)
    return first, end.date()


def summed_days(tenant_id: UUID, start: datetime, end: datetime, using: str = "default") -> set[date]:
    """The days, wholly in the time, whose daily sums are those of their records."""
    first, last = whole_days(start, end)
    summed = _counts(_COUNT_SUMMED, tenant_id, first, last, using)
    counted = _counts(_COUNT_RECORDS, tenant_id, midnight(first), midnight(last), using) if summed else {}
    return {day for day, calls in summed.items() if counted.get(day) == calls}


def roll_up(tenant_id: UUID, now: datetime) -> int:
    """Add up the days before `now` that are not; how many. One at a time may do so for a tenant."""
    first, last = now.date() - timedelta(days=KEPT_DAYS), now.date()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"usage_day {tenant_id}"])
        counted = _counts(_COUNT_RECORDS, tenant_id, midnight(first), midnight(last))
        summed = _counts(_COUNT_SUMMED, tenant_id, first, last)
        missing = sorted(day for day, calls in counted.items() if summed.get(day) != calls)
        cursor.execute("DELETE FROM usage_day WHERE tenant_id = %s AND day = ANY (%s)", [tenant_id, missing])
        for day in missing:
            cursor.execute(_ROLL_UP, [day, tenant_id, midnight(day), midnight(day + timedelta(days=1))])
    return len(missing)


def _counts(sql: str, tenant_id: UUID, first: Any, last: Any, using: str = "default") -> dict[date, int]:
    if first >= last:
        return {}
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [tenant_id, first, last])
        return {day: int(calls) for day, calls in cursor.fetchall()}


def times_without(days: Iterable[date], start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """What is left of the time from `start` to `end` without these days, as few pieces as possible."""
    left, begin = [], start
    for day in sorted(days):
        if begin < midnight(day):
            left.append((begin, midnight(day)))
        begin = midnight(day + timedelta(days=1))
    return [*left, (begin, end)] if begin < end else left
