"""The rows in which budgets count, and what their sums must be by the usage records."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction

from core.ids import uuid7
from usage.budgets import Share, bounds
from usage.models import Budget, BudgetPeriod

KNOWN_SIZE = 16_384
_WHOSE = {
    Budget.Scope.TENANT: "true",
    Budget.Scope.USER: "r.actor_kind = 'user' AND r.actor_id::text = {subject}",
    Budget.Scope.API_KEY: "r.actor_kind = 'api_key' AND r.actor_id::text = {subject}",
    Budget.Scope.END_USER: "r.end_user = {subject}",
    Budget.Scope.AGENT: "r.agent_id::text = {subject}",
    Budget.Scope.SESSION: "r.session_id = {subject}::uuid",
    Budget.Scope.RUN: "r.run_id = {subject}::uuid",
}
SUBJECT_OF = {  # a record's subject in each scope, as periods name it; null for none
    Budget.Scope.TENANT: "''",
    Budget.Scope.USER: "CASE WHEN r.actor_kind = 'user' THEN r.actor_id::text END",
    Budget.Scope.API_KEY: "CASE WHEN r.actor_kind = 'api_key' THEN r.actor_id::text END",
    Budget.Scope.END_USER: "r.end_user",
    Budget.Scope.AGENT: "r.agent_id::text",
    Budget.Scope.SESSION: "r.session_id::text",
    Budget.Scope.RUN: "r.run_id::text",
}
WHAT = {
    Budget.Unit.USD: "coalesce(sum(r.charge), 0)",
    Budget.Unit.TOKENS: "coalesce(sum(r.input_tokens::bigint + r.output_tokens) FILTER (WHERE NOT r.cached), 0)",
}
_ADD = """
    INSERT INTO budget_period
        (id, tenant_id, created_at, budget_id, subject, starts_at, ends_at, spent, reserved, notified_at)
    SELECT %(id)s, %(tenant)s, now(), budget.id, %(subject)s, %(starts)s, %(ends)s, ({spent}), 0, 0
    FROM budget WHERE budget.tenant_id = %(tenant)s AND budget.id = %(budget)s FOR KEY SHARE
    ON CONFLICT (tenant_id, budget_id, subject, starts_at) DO NOTHING
    RETURNING id
"""


class _Key(NamedTuple):
    budget_id: UUID
    subject: str
    starts_at: datetime


_known: dict[_Key, UUID] = {}


def spent_sql(budget: Budget, *, tenant: str, subject: str, starts: str, ends: str) -> str:
    """What the records say that was spent in a period; the arguments are SQL expressions."""
    return (
        f"SELECT {WHAT[Budget.Unit(budget.unit)]} FROM usage_record r WHERE r.tenant_id = {tenant} "  # noqa: S608
        f"AND r.created_at >= {starts} AND ({ends} IS NULL OR r.created_at < {ends}) "
        f"AND {_WHOSE[Budget.Scope(budget.scope)].format(subject=subject)}"
    )


def period_ids(shares: Sequence[Share], at: datetime) -> list[UUID | None]:
    """The rows of the shares' periods, in their order; those that are missing are added with what was spent already.

    None for a budget that was deleted.
    """
    return [_known.get(_key(share, at)) or _add(share, at) for share in shares]


def forget_periods(ids: Sequence[UUID | None]) -> None:
    """Rows that are not there any more."""
    for key in [key for key, id in _known.items() if id in ids]:
        del _known[key]


def _key(share: Share, at: datetime) -> _Key:
    starts, _ = bounds(share.budget.period, at)
    return _Key(share.budget.id, share.subject, starts)


def _add(share: Share, at: datetime) -> UUID | None:
    """Looked for first: to add up what was spent reads the records of the whole period."""
    found = _stored(share, at) or _inserted(share, at) or _stored(share, at)
    if found is not None:  # it may be this transaction's own, which may be rolled back
        transaction.on_commit(partial(_remember, _key(share, at), found))
    return found


def _stored(share: Share, at: datetime) -> UUID | None:
    rows = BudgetPeriod.objects.filter(
        tenant_id=share.budget.tenant_id, budget_id=share.budget.id, subject=share.subject
    )
    found: UUID | None = rows.filter(starts_at=_key(share, at).starts_at).values_list("id", flat=True).first()
    return found


def _inserted(share: Share, at: datetime) -> UUID | None:
    """None when another one was faster, or the budget was deleted."""
    budget, key = share.budget, _key(share, at)
    _, ends = bounds(budget.period, at)
    names = {"tenant": "%(tenant)s", "subject": "%(subject)s", "starts": "%(starts)s", "ends": "%(ends)s::timestamptz"}
    given: dict[str, Any] = {
        "id": uuid7(),
        "tenant": budget.tenant_id,
        "budget": budget.id,
        "subject": share.subject,
        "starts": key.starts_at,
        "ends": ends,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ADD.format(spent=spent_sql(budget, **names)), given)
        added = cursor.fetchone()
    return UUID(str(added[0])) if added else None


def _remember(key: _Key, id: UUID) -> None:
    if len(_known) >= KNOWN_SIZE:
        _known.clear()
    _known[key] = id


def recounted(budget: Budget, period: BudgetPeriod) -> Decimal:
    """What the records say; exact while the caller has the period's row locked."""
    names = {"tenant": "%s", "subject": "%s", "starts": "%s", "ends": "%s::timestamptz"}
    sql = spent_sql(budget, **names)
    whose = [] if budget.scope == Budget.Scope.TENANT else [period.subject]
    given: list[Any] = [budget.tenant_id, period.starts_at, period.ends_at, period.ends_at, *whose]
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        (spent,) = cursor.fetchone()
    return Decimal(spent)
