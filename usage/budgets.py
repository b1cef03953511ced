"""Which budgets a call counts against, and for which of their periods."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from core.kept import Kept
from usage.models import Budget

_active: Kept[UUID, list[Budget]] = Kept()


@dataclass(frozen=True, slots=True)
class Payer:
    """In whose name a model is called; every field may make a budget apply."""

    tenant_id: UUID
    actor_kind: str
    actor_id: UUID | None
    actor_label: str
    end_user: str = ""
    agent_id: UUID | None = None
    agent: str = ""
    agent_version: int | None = None
    session_id: UUID | None = None
    run_id: UUID | None = None

    def subject(self, scope: str) -> str | None:
        """Who it is in a budget's scope; None when nobody."""
        acts_as = self.actor_id if self.actor_kind == scope else None
        found = {
            Budget.Scope.TENANT: "",
            Budget.Scope.USER: acts_as,
            Budget.Scope.API_KEY: acts_as,
            Budget.Scope.END_USER: self.end_user or None,
            Budget.Scope.AGENT: self.agent_id,
            Budget.Scope.SESSION: self.session_id,
            Budget.Scope.RUN: self.run_id,
        }[Budget.Scope(scope)]
        return None if found is None else str(found)

    def name_of(self, scope: str) -> str:
        """As people know who it is in a budget's scope; "" for the tenant."""
        names = {
            Budget.Scope.USER: self.actor_label,
            Budget.Scope.API_KEY: self.actor_label,
            Budget.Scope.END_USER: self.end_user,
            Budget.Scope.AGENT: self.agent,
            Budget.Scope.SESSION: f"the session {self.session_id}",
            Budget.Scope.RUN: f"the run {self.run_id}",
        }
        return names.get(Budget.Scope(scope), "")


class Amount(NamedTuple):
    """What is spent, or held: US dollars, None when the price is not known, and tokens."""

    usd: Decimal | None
    tokens: int

    def of(self, unit: str) -> Decimal:
        return Decimal(self.tokens) if unit == Budget.Unit.TOKENS else self.usd or Decimal(0)

    def beyond(self, other: "Amount") -> "Amount":
        """How much more it is; never less than nothing."""
        usd = None if self.usd is None else max(self.usd - (other.usd or Decimal(0)), Decimal(0))
        return Amount(usd, max(self.tokens - other.tokens, 0))


class Share(NamedTuple):
    """A budget that a payer counts against, by the subject whose period it is."""

    budget: Budget
    subject: str


def shares(payer: Payer, *, hard: bool = False) -> list[Share]:
    """The budgets that apply, `hard` those only that can refuse."""
    found = ((budget, payer.subject(budget.scope)) for budget in active_budgets(payer.tenant_id))
    return [
        Share(budget, subject)
        for budget, subject in found
        if subject is not None and budget.subject in ("", subject) and (budget.hard or not hard)
    ]


def active_budgets(tenant_id: UUID) -> Sequence[Budget]:
    return _active.get(tenant_id, lambda: list(Budget.objects.filter(tenant_id=tenant_id, is_active=True)))


def forget_budgets(tenant_id: UUID) -> None:
    """After a change: calls in this process see it at once."""
    _active.forget(tenant_id)


def bounds(period: str, at: datetime) -> tuple[datetime, datetime | None]:
    """The period (UTC) in which a time lies: from its beginning to before its end."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Budget.Period.DAY:
            return day, day + timedelta(days=1)
        case Budget.Period.WEEK:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        case Budget.Period.MONTH:
            first = day.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)
    return datetime(2000, 1, 1, tzinfo=UTC), None


def months(until: datetime, count: int) -> Iterator[tuple[datetime, datetime]]:
    """The last `count` months that ended before `until`, the latest first."""
    first, _ = bounds(Budget.Period.MONTH, until)
    for _ in range(count):
        start, end = bounds(Budget.Period.MONTH, first - timedelta(days=1))
        assert end is not None
        yield start, end
        first = start
