"""What calls cost: held before a call and settled after it, each by one statement in the caller's transaction."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from core import audit
from core.jobs import enqueue
from core.rows import as_given, ask, insert_sql, send
from tenants.principal import system_principal
from usage.budgets import Amount, Payer, Share, bounds, forget_budgets, shares
from usage.exceptions import BudgetExceeded, budget_exceeded, price_unknown
from usage.models import Budget, BudgetPeriod, UsageRecord
from usage.periods import forget_periods, period_ids
from usage.records import CallRecord

logger = logging.getLogger(__name__)

# Locked in the order of their ids, so that no two transactions wait for each other; held of all or none.
# The budget is read here, not from a cache: what it allows now counts.
_HOLD = """
    WITH wanted AS (SELECT * FROM jsonb_to_recordset($4::jsonb) AS wanted (id uuid, amount numeric)),
    locked AS (
        SELECT period.id, wanted.amount, budget.amount AS most, budget.amount - period.spent - period.reserved AS room
        FROM budget_period period
        JOIN wanted USING (id)
        JOIN budget ON budget.tenant_id = period.tenant_id AND budget.id = period.budget_id
        WHERE period.tenant_id = $1::uuid ORDER BY period.id FOR UPDATE OF period
    ),
    fitting AS (SELECT count(*) FILTER (WHERE room >= amount) = $5::int AS fits FROM locked),
    moved AS (
        UPDATE budget_period period SET reserved = period.reserved + locked.amount
        FROM locked, fitting
        WHERE fits AND period.id = locked.id AND period.tenant_id = $1::uuid
        RETURNING period.id, locked.amount
    ),
    held AS (
        INSERT INTO budget_hold (id, tenant_id, created_at, period_id, run_id, call_id, amount)
        SELECT gen_random_uuid(), $1::uuid, now(), id, $2::uuid, $3::uuid, amount FROM moved
        ON CONFLICT (tenant_id, call_id, period_id) DO UPDATE SET amount = budget_hold.amount + EXCLUDED.amount
    )
    SELECT id, most, room, fits FROM locked, fitting
"""
_SETTLE = """
    WITH stored AS ({stored}),
    owed AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset($5::jsonb) AS owed (id uuid, call uuid, amount numeric)
    ),
    locked AS (
        SELECT period.id FROM budget_period period
        WHERE period.tenant_id = $2::uuid AND (period.id IN (SELECT id FROM owed) OR period.id IN (
            SELECT period_id FROM budget_hold
            WHERE tenant_id = $2::uuid AND (call_id = ANY ($4::uuid[]) OR run_id = $3::uuid)))
        ORDER BY period.id FOR UPDATE OF period
    ),
    freed AS (
        DELETE FROM budget_hold
        WHERE tenant_id = $2::uuid AND (call_id = ANY ($4::uuid[]) OR run_id = $3::uuid)
            AND (SELECT count(*) FROM locked) > 0
        RETURNING period_id, amount
    ),
    paid AS (
        SELECT owed.id, owed.amount
        FROM owed JOIN stored ON stored.id = owed.call
    ),
    change AS (
        SELECT id, sum(spent) AS spent, sum(freed) AS freed FROM (
            SELECT id, amount AS spent, 0 AS freed FROM paid
            UNION ALL SELECT period_id, 0, amount FROM freed
        ) AS both_ways WHERE (SELECT count(*) FROM locked) > 0 GROUP BY id
    )
    UPDATE budget_period period SET spent = period.spent + change.spent, reserved = period.reserved - change.freed
    FROM change, budget
    WHERE period.id = change.id AND period.tenant_id = $2::uuid
        AND budget.tenant_id = period.tenant_id AND budget.id = period.budget_id
    RETURNING period.id, period.subject, period.spent, period.notified_at, budget.id, budget.slug, budget.amount,
        budget.scope = 'tenant' OR budget.subject <> '', (
        SELECT coalesce(max(share::int), 0) FROM jsonb_array_elements_text(budget.notify_at) AS share
        WHERE period.spent * 100 >= share::int * budget.amount
    )
"""


class Room(NamedTuple):
    """What a hard budget has left beyond what is held."""

    unit: str
    left: Decimal


class _Before(NamedTuple):
    """What a budget allows, and had left, when something was to be held; `held` says whether it was."""

    most: Decimal
    left: Decimal
    held: bool


def reserve(
    *, payer: Payer, call_id: UUID, amount: Amount, model: str, at: datetime | None = None
) -> list[Room] | None:
    """Hold an amount, or so much more, of every hard budget that applies; None when none does.

    `at` says for which periods; `payer` has a run. Raises BudgetExceeded or PriceUnknown, with which nothing is held.
    """
    found = shares(payer, hard=True)
    if not found:
        return None
    for budget, _ in found:
        if budget.unit == Budget.Unit.USD and amount.usd is None:
            raise price_unknown(budget.slug, model)
    at = at or datetime.now(UTC)
    rooms = _hold(payer, call_id, found, amount, at)
    if len(rooms) < len(found) and _forget_deleted(payer.tenant_id, found, at):
        found = shares(payer, hard=True)
        rooms = _hold(payer, call_id, found, amount, at)
    for share in found:
        room = rooms.get(share)
        if room is None or not (room.held or room.left >= amount.of(share.budget.unit)):
            raise _refusal(payer, share, amount, at, room or _Before(share.budget.amount, Decimal(0), False))
    after = [(share.budget.unit, room.left - amount.of(share.budget.unit)) for share, room in rooms.items()]
    return [Room(unit, left) for unit, left in after] or None


def add_periods(payer: Payer, at: datetime) -> None:
    """Before a transaction that settles and then holds: others add what is missing before they lock any period."""
    period_ids(shares(payer), at)


def _hold(payer: Payer, call_id: UUID, wanted: Sequence[Share], amount: Amount, at: datetime) -> dict[Share, _Before]:
    """What the budgets had before: each that is there, which is all of them when something was held."""
    found = {id: share for share, id in zip(wanted, period_ids(wanted, at), strict=True) if id is not None}
    amounts = as_given([{"id": id, "amount": amount.of(share.budget.unit)} for id, share in found.items()])
    rows = ask(_HOLD, str(payer.tenant_id), str(payer.run_id), str(call_id), amounts, str(len(wanted)))
    return {found[id]: _Before(*room) for id, *room in rows}


def _refusal(payer: Payer, share: Share, amount: Amount, at: datetime, room: _Before) -> BudgetExceeded:
    budget = share.budget
    return budget_exceeded(
        budget.slug,
        payer.name_of(budget.scope),
        unit=budget.unit,
        needed=amount.of(budget.unit),
        left=room.left,
        amount=room.most,
        resets_at=bounds(budget.period, at)[1],
        now=datetime.now(UTC),
    )


def _forget_deleted(tenant_id: UUID, found: Sequence[Share], at: datetime) -> bool:
    """Was a budget deleted, or its periods counted anew, since this process has seen it?"""
    ids = period_ids(found, at)
    with connection.cursor() as cursor:
        sql = "SELECT count(*) FROM budget_period WHERE tenant_id = %s AND id = ANY (%s::uuid[])"
        cursor.execute(sql, [tenant_id, [id for id in ids if id is not None]])
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
    if not calls and run_id is None:
        return
    owed = _owed(calls)  # before the records, so that they are counted once
    rows = [call.row() for call in calls]
    columns = tuple(rows[0]) if rows else ()
    if not owed and not held:
        if rows:
            send(_store_sql(columns), as_given(rows))
        return
    ids = ",".join(str(call.id) for call in calls)
    run = str(run_id) if run_id else None
    changed = ask(_settle_sql(columns), as_given(rows), str(tenant_id), run, f"{{{ids}}}", as_given(owed))
    for row in changed:
        reached = _Reached(*row)
        if reached.percent > reached.notified_at:
            _notify(tenant_id, reached)


def _owed(calls: Sequence[CallRecord]) -> list[dict[str, Any]]:
    """What each call has spent of each budget: the `id` of its period, the `call` and the `amount`."""
    period_of = cache(lambda share, starts: period_ids([share], starts)[0])
    found = ((share, call) for call in calls for share in shares(call.payer))
    periods = ((period_of(share, bounds(share.budget.period, call.began)[0]), share, call) for share, call in found)
    return [
        {"id": id, "call": call.id, "amount": call.spent.of(share.budget.unit)}
        for id, share, call in periods
        if id is not None
    ]


def release(*, tenant_id: UUID, run_id: UUID) -> None:
    """What a lost run held is free again."""
    settle(tenant_id=tenant_id, calls=(), run_id=run_id)


@cache
def _settle_sql(columns: tuple[str, ...]) -> str:
    none = "SELECT NULL::uuid AS id WHERE $1::jsonb IS NULL"
    return _SETTLE.format(stored=f"{_store_sql(columns)} RETURNING id" if columns else none)


def _store_sql(columns: tuple[str, ...]) -> str:
    return f"{insert_sql(UsageRecord._meta.db_table, columns)} ON CONFLICT (id) DO NOTHING"


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
