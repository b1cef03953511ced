"""What calls cost: held before a call and settled after it, each by one statement in the caller's transaction."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from core import audit
from core.jobs import enqueue
from tenants.principal import system_principal
from usage.budgets import Amount, Payer, Share, bounds, forget_budgets, shares
from usage.exceptions import budget_exceeded, price_unknown
from usage.models import Budget, BudgetPeriod
from usage.periods import forget_periods, period_ids
from usage.records import MOST_TOKENS, CallRecord

logger = logging.getLogger(__name__)

# Locked in the order of their ids, so that no two transactions wait for each other. The budget is read here, not from
# a cache: what it allows now counts.
_HOLD = """
    WITH wanted AS (SELECT * FROM unnest(%(periods)s::uuid[], %(amounts)s::numeric[]) AS wanted (id, amount)),
    locked AS (
        SELECT period.id FROM budget_period period JOIN wanted USING (id)
        WHERE period.tenant_id = %(tenant)s ORDER BY period.id FOR UPDATE OF period
    ),
    moved AS (
        UPDATE budget_period period SET reserved = period.reserved + wanted.amount
        FROM wanted, locked, budget
        WHERE period.id = wanted.id AND locked.id = period.id AND period.tenant_id = %(tenant)s
            AND budget.tenant_id = period.tenant_id AND budget.id = period.budget_id
            AND period.spent + period.reserved + wanted.amount <= budget.amount
        RETURNING period.id, wanted.amount
    ),
    held AS (
        INSERT INTO budget_hold (id, tenant_id, created_at, period_id, run_id, call_id, amount)
        SELECT gen_random_uuid(), %(tenant)s, now(), id, %(run)s, %(call)s, amount FROM moved
        ON CONFLICT (tenant_id, call_id, period_id) DO UPDATE SET amount = budget_hold.amount + EXCLUDED.amount
    )
    SELECT id FROM moved
"""
_SETTLE = """
    WITH freed AS (
        DELETE FROM budget_hold
        WHERE tenant_id = %(tenant)s AND (call_id = ANY (%(calls)s::uuid[]) OR run_id = %(run)s)
        RETURNING period_id, amount
    ),
    paid AS (SELECT * FROM unnest(%(periods)s::uuid[], %(amounts)s::numeric[]) AS paid (id, amount)),
    change AS (
        SELECT id, sum(spent) AS spent, sum(freed) AS freed FROM (
            SELECT id, amount AS spent, 0 AS freed FROM paid
            UNION ALL SELECT period_id, 0, amount FROM freed
        ) AS both_ways GROUP BY id
    ),
    locked AS (
        SELECT period.id FROM budget_period period JOIN change USING (id)
        WHERE period.tenant_id = %(tenant)s ORDER BY period.id FOR UPDATE OF period
    )
    UPDATE budget_period period SET spent = period.spent + change.spent, reserved = period.reserved - change.freed
    FROM change, locked, budget
    WHERE period.id = change.id AND locked.id = period.id AND period.tenant_id = %(tenant)s
        AND budget.tenant_id = period.tenant_id AND budget.id = period.budget_id
    RETURNING period.id, period.subject, period.spent, period.notified_at, budget.id, budget.slug, budget.amount,
        budget.scope = 'tenant' OR budget.subject <> '', (
        SELECT coalesce(max(share::int), 0) FROM jsonb_array_elements_text(budget.notify_at) AS share
        WHERE period.spent * 100 >= share::int * budget.amount
    )
"""


def reserve(*, payer: Payer, call_id: UUID, amount: Amount, model: str, at: datetime | None = None) -> bool:
    """Hold an amount, or so much more, of every hard budget that applies; False when none does.

    Call it in a transaction, which it ends by raising BudgetExceeded or PriceUnknown; `payer` has a run.
    """
    found = shares(payer, hard=True)
    if not found:
        return False
    for budget, _ in found:
        if budget.unit == Budget.Unit.USD and amount.usd is None:
            raise price_unknown(budget.slug, model)
    at = at or datetime.now(UTC)
    held = _hold(payer, call_id, found, period_ids(found, at), amount)
    if len(held) < len(found) and _forget_deleted(payer.tenant_id, found, at):
        found = shares(payer, hard=True)
        missing = [share for share in found if share not in held]
        held += _hold(payer, call_id, missing, period_ids(missing, at), amount)
    for share in found:
        if share not in held:
            raise budget_exceeded(share.budget.slug, share.subject, bounds(share.budget.period, at)[1], at)
    return bool(found)


def _hold(payer: Payer, call_id: UUID, found: Sequence[Share], ids: Sequence[UUID], amount: Amount) -> list[Share]:
    """Those of the budgets that had room."""
    amounts = [amount.of(share.budget.unit) for share in found]
    given: dict[str, Any] = {
        "tenant": payer.tenant_id,
        "run": payer.run_id,
        "call": call_id,
        "periods": ids,
        "amounts": amounts,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, given)
        held = {row[0] for row in cursor.fetchall()}
    return [share for share, id in zip(found, ids, strict=True) if id in held]


def _forget_deleted(tenant_id: UUID, found: Sequence[Share], at: datetime) -> bool:
    """Was a budget deleted, or its periods counted anew, since this process has seen it?"""
    ids = period_ids(found, at)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM budget_period WHERE tenant_id = %s AND id = ANY (%s)", [tenant_id, ids])
        if cursor.fetchone()[0] == len(ids):
            return False
    forget_periods(ids)
    forget_budgets(tenant_id)
    return True


def settle(*, tenant_id: UUID, calls: Sequence[CallRecord], run_id: UUID | None = None, held: bool = True) -> None:
    """Store what calls used and count it against budgets. A call that is stored already is not paid again.

    `run_id`: that run has ended, and whatever is still held for it is free. `held` False: nothing was. Call it in a
    transaction.
    """
    paid = [(share, call) for call in calls for share in shares(call.payer)]
    ids = [period_ids([share], call.began)[0] for share, call in paid]  # before the records: they are counted once
    stored = _store(calls) if calls else set()
    if not paid and not held:
        return
    amounts = [call.spent.of(share.budget.unit) if call.id in stored else Decimal(0) for share, call in paid]
    given: dict[str, Any] = {
        "tenant": tenant_id,
        "run": run_id,
        "calls": [call.id for call in calls],
        "periods": ids,
        "amounts": amounts,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, given)
        changed = cursor.fetchall()
    for row in changed:
        reached = _Reached(*row)
        if reached.percent > reached.notified_at:
            _notify(tenant_id, reached)


def release(*, tenant_id: UUID, run_id: UUID) -> None:
    """What a lost run held is free again."""
    settle(tenant_id=tenant_id, calls=(), run_id=run_id)


def _store(calls: Sequence[CallRecord]) -> set[UUID]:
    """The ids of those that were not there yet."""
    rows = [call.row() for call in calls]
    columns = list(rows[0])
    one = f"({', '.join(['%s'] * len(columns))})"
    sql = (
        f"INSERT INTO usage_record ({', '.join(columns)}) VALUES {', '.join([one] * len(rows))} "  # noqa: S608
        "ON CONFLICT (id) DO NOTHING RETURNING id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [_value(value) for row in rows for value in row.values()])
        return {row[0] for row in cursor.fetchall()}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, 0), MOST_TOKENS)
    return value


class _Reached(NamedTuple):
    """A budget's period after a change; `percent` is the highest share to tell of that is reached."""

    period_id: UUID
    subject: str
    spent: Decimal
    notified_at: int
    budget_id: UUID
    slug: str
    amount: Decimal
    sole_subject: bool
    percent: int


def _notify(tenant_id: UUID, reached: _Reached) -> None:
    """Tell of the share, once."""
    rows = BudgetPeriod.objects.filter(tenant_id=tenant_id, id=reached.period_id)
    rows.update(notified_at=reached.percent)
    told = {"percent": reached.percent, "subject": reached.subject}
    told |= {"spent": str(reached.spent), "amount": str(reached.amount)}
    budget, now = Budget(id=reached.budget_id, slug=reached.slug), timezone.now()
    audit.record(actor=system_principal(tenant_id, ""), action="budget.reached", target=budget, after=told)
    transaction.on_commit(lambda: _tell(reached, now))


def _tell(reached: _Reached, now: datetime) -> None:
    """Mail is not worth the turn that it is sent for. What each subject for itself reaches is told once an hour."""
    told: dict[str, Any] = {"budget_id": str(reached.budget_id)}
    try:
        if reached.sole_subject:
            enqueue("usage.notify", percent=reached.percent, subject=reached.subject, **told)
        else:
            hour = now.replace(minute=0, second=0, microsecond=0)
            once, at = f"{reached.budget_id} {hour:%Y-%m-%dT%H}", hour + timedelta(hours=1, minutes=1)
            enqueue("usage.notify_subjects", once=once, at=at, hour=hour.isoformat(), **told)
    except Exception:
        logger.exception("A budget's notice could not be queued", extra=told)
