"""Proves that budgets and records agree: what differs, found by statements that each see one moment."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from usage.models import Budget
from usage.periods import SUBJECT_OF, WHAT

_SPENT = """
    SELECT p.id, p.subject, p.spent, coalesce(found.spent, 0)
    FROM budget_period p LEFT JOIN (
        SELECT {key} AS subject, {what} AS spent FROM usage_record r
        WHERE r.tenant_id = %(tenant)s AND r.created_at >= %(starts)s
            AND (%(ends)s::timestamptz IS NULL OR r.created_at < %(ends)s) GROUP BY 1
    ) AS found ON found.subject = p.subject
    WHERE p.tenant_id = %(tenant)s AND p.budget_id = %(budget)s AND p.starts_at = %(starts)s
        AND p.spent <> coalesce(found.spent, 0)
"""
_WINDOWS = (
    "SELECT DISTINCT starts_at, ends_at FROM budget_period WHERE tenant_id = %(tenant)s AND budget_id = %(budget)s"
)
_RESERVED = """
    SELECT p.id, b.slug, p.subject, p.starts_at, p.reserved, coalesce(held.amount, 0)
    FROM budget_period p JOIN budget b ON b.tenant_id = p.tenant_id AND b.id = p.budget_id
    LEFT JOIN (
        SELECT period_id, sum(amount) AS amount FROM budget_hold WHERE tenant_id = %(tenant)s GROUP BY 1
    ) AS held ON held.period_id = p.id
    WHERE p.tenant_id = %(tenant)s AND p.reserved <> coalesce(held.amount, 0)
"""
# The last place of a column may be rounded otherwise than Decimal does.
_COSTS = """
    WITH priced AS (
        SELECT id, cost, charge, saved, cached, prices IS NULL AS unknown,
            input_tokens::bigint + output_tokens AS tokens,
            (greatest(input_tokens::numeric - cached_tokens - cache_write_tokens, 0) * (prices ->> 'input')::numeric
                + output_tokens * (prices ->> 'output')::numeric
                + cached_tokens * coalesce(prices ->> 'cached', prices ->> 'input')::numeric
                + cache_write_tokens * coalesce(prices ->> 'cache_write', prices ->> 'input')::numeric
            ) / 1000000 AS price,
            1 + coalesce((prices ->> 'markup_percent')::numeric, 0) / 100 AS markup
        FROM usage_record WHERE tenant_id = %(tenant)s
    ), expected AS (
        SELECT *, CASE WHEN cached THEN 0 ELSE price END AS wanted, CASE WHEN cached THEN price ELSE 0 END AS unspent
        FROM priced
    )
    SELECT id, cost, wanted, charge, cost * markup FROM expected
    WHERE (unknown AND tokens > 0 AND (cost IS NOT NULL OR charge IS NOT NULL))
        OR (tokens = 0 AND (cost <> 0 OR charge <> 0))
        OR (NOT unknown AND tokens > 0 AND (cost IS NULL OR charge IS NULL OR abs(cost - wanted) > 1e-12
            OR abs(charge - cost * markup) > 1e-12 OR abs(saved - unspent) > 1e-12))
    ORDER BY id
"""


class Difference(NamedTuple):
    """`kind` says which rule is broken, `row` of which object, `text` how."""

    kind: str
    row: UUID
    text: str


def query(sql: str, **given: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return list(cursor.fetchall())


def differences(tenant_id: UUID) -> Iterator[Difference]:
    """In the tenant's context. Of a budget that is switched off nothing is counted, so nothing is compared."""
    for budget in Budget.objects.filter(tenant_id=tenant_id, is_active=True).order_by("slug"):
        yield from _spent(budget)
    for id, slug, subject, starts, stored, found in query(_RESERVED, tenant=tenant_id):
        text = f"budget {_period(slug, subject, starts)} holds {_plain(stored)}, its calls {_plain(found)}"
        yield Difference("reserved", id, text)
    for id, cost, wanted, charge, marked in query(_COSTS, tenant=tenant_id):
        text = f"record {id} costs {_plain(cost)} and charges {_plain(charge)}, its tokens {_plain(wanted)}"
        yield Difference("cost", id, f"{text} and {_plain(marked)}")


def _spent(budget: Budget) -> Iterator[Difference]:
    sql = _SPENT.format(key=SUBJECT_OF[Budget.Scope(budget.scope)], what=WHAT[Budget.Unit(budget.unit)])
    given = {"tenant": budget.tenant_id, "budget": budget.id}
    for starts, ends in query(_WINDOWS, **given):
        for id, subject, stored, found in query(sql, **given, starts=starts, ends=ends):
            text = f"budget {_period(budget.slug, subject, starts)} has {_plain(stored)}, its records {_plain(found)}"
            yield Difference("spent", id, text)


def _period(slug: str, subject: str, starts: Any) -> str:
    return f"{slug}{f' of {subject}' if subject else ''} from {starts:%Y-%m-%d}"


def _plain(value: Decimal | None) -> str:
    return "nothing known" if value is None else f"{value.normalize():f}"
