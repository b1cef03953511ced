"""Sums of usage by dimensions and time: from the records, and for past days from their daily sums."""

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from usage.daily import DAY_SUMS, RECORD_SUMS, SUMS_OF_SUMS, summed_days, times_without
from usage.dimensions import DIMENSIONS, NAMED_ACTORS


@dataclass(frozen=True, slots=True)
class Query:
    """Calls that began from `start` on and before `end`, both with a time zone.

    `group_by` and `filters` name DIMENSIONS; a filter's value has the dimension's type. `bucket` is one of BUCKETS
    (UTC; a week begins on Monday), None for one group over all the time.
    """

    start: datetime
    end: datetime
    group_by: Sequence[str] = ()
    bucket: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None

    @property
    def fits_days(self) -> bool:
        """May daily sums answer it?"""
        return self.bucket != "hour" and all(DIMENSIONS[name].daily for name in (*self.group_by, *self.filters))


class Sums(NamedTuple):
    """Money is US dollars; a call whose price is not known is `unknown` and adds nothing to it."""

    calls: int = 0
    failed: int = 0
    hits: int = 0
    unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)
    charge: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)

    @property
    def hit_rate(self) -> float:
        """Answers from the cache, as a share of all; one that was shared while it was made is none of them."""
        return self.hits / self.calls if self.calls else 0.0


class Percentiles(NamedTuple):
    """Milliseconds of the calls that asked a provider; None without one."""

    p50: int | None
    p95: int | None


class Totals(NamedTuple):
    """One group of calls. `names` has the labels of the people and keys among `dims`."""

    bucket: datetime | None
    dims: dict[str, Any]
    names: dict[str, str]
    sums: Sums
    first_token_ms: Percentiles
    total_ms: Percentiles


def summed(rows: Iterable[Totals]) -> Sums:
    """Of all groups together."""
    columns = zip(*(row.sums for row in rows), strict=True)
    return Sums(*(sum(column) for column in columns))


def totals(tenant_id: UUID, query: Query, *, using: str = "default") -> list[Totals]:
    """At most `query.limit` groups in the order of time, and those of one time by cost, the highest first.

    Without any call there is none.
    """
    days = summed_days(tenant_id, query.start, query.end, using) if query.fits_days else set()
    times = times_without(days, query.start, query.end)
    given: dict[str, Any] = {"tenant": tenant_id, "days": list(days), "limit": query.limit}
    given |= {f"is_{name}": value for name, value in query.filters.items()}
    given |= {f"from_{number}": start for number, (start, _) in enumerate(times)}
    given |= {f"to_{number}": end for number, (_, end) in enumerate(times)}
    with connections[using].cursor() as cursor:
        cursor.execute(_sql(query, len(times)), given)
        return [_totals(query, row) for row in cursor.fetchall()]


def _sql(query: Query, times: int) -> str:
    """`times` is how many pieces of time the records are read for; the rest are daily sums."""
    one = "created_at >= %(from_{0})s AND created_at < %(to_{0})s"
    when = " OR ".join(one.format(number) for number in range(times)) or "false"
    records = _part(query, "usage_record", when, "created_at AT TIME ZONE 'UTC'", RECORD_SUMS)
    days = _part(query, "usage_day", "day = ANY (%(days)s)", "day::timestamp", DAY_SUMS)
    parts = f"{records} UNION ALL {days}" if query.fits_days else records
    keys = ", ".join(_keys(query))
    sums = ", ".join(f"{sql} AS {name}" for name, sql in SUMS_OF_SUMS.items())
    return (
        f"SELECT {keys}, max(label), {sums} FROM ({parts}) AS part GROUP BY {keys} HAVING sum(calls) > 0 "  # noqa: S608
        f"ORDER BY bucket, cost DESC, {keys} LIMIT %(limit)s"
    )


def _keys(query: Query) -> list[str]:
    return ["bucket", *(f"dim_{name}" for name in query.group_by)]


def _part(query: Query, table: str, when: str, time: str, sums: Mapping[str, str]) -> str:
    bucket = f"date_trunc('{query.bucket}', {time}) AT TIME ZONE 'UTC'" if query.bucket else "NULL::timestamptz"
    keys = [f"{bucket} AS bucket", *(f"{DIMENSIONS[name].sql} AS dim_{name}" for name in query.group_by)]
    filters = "".join(f" AND {DIMENSIONS[name].sql} = %(is_{name})s" for name in query.filters)
    columns = ", ".join([*keys, "max(actor_label) AS label", *(f"{sql} AS {name}" for name, sql in sums.items())])
    where = f"tenant_id = %(tenant)s AND ({when}){filters}"
    return f"SELECT {columns} FROM {table} WHERE {where} GROUP BY {', '.join(_keys(query))}"  # noqa: S608


def _totals(query: Query, row: Sequence[Any]) -> Totals:
    width = 1 + len(query.group_by)
    dims = dict(zip(query.group_by, row[1:width], strict=True))
    names = {name: row[width] for name, value in dims.items() if name in NAMED_ACTORS and value is not None}
    *found, first_token, total = row[width + 1 :]
    integers: Any = map(int, found[:8])
    sums = Sums(*integers, *found[8:])
    return Totals(row[0], dims, names, sums, _percentiles(first_token), _percentiles(total))


def _percentiles(packed: bytes) -> Percentiles:
    """The least values that 50, and 95, of a hundred do not exceed."""
    values = array("i")
    values.frombytes(packed)
    if sys.byteorder == "little":
        values.byteswap()
    count = sorted(Counter(values).items())
    return Percentiles(*(_at_rank(count, ceil(len(values) * share / 100)) for share in (50, 95)))


def _at_rank(count: Sequence[tuple[int, int]], rank: int) -> int | None:
    seen = 0
    for value, times in count:
        seen += times
        if seen >= rank:
            return value
    return None
