"""Words and bars for money, on the pages."""

from decimal import Decimal
from typing import Any, Protocol

from django.utils.html import format_html
from django.utils.safestring import SafeString

from usage.models import Budget, BudgetPeriod

NOT_KNOWN = "not known"


class Unpriced(Protocol):
    """Sums of calls, of which so many have no known price."""

    @property
    def unknown(self) -> int: ...


def dollars(value: Decimal | float | None, digits: int = 4) -> str:
    """Whole cents from a dollar on, so many digits below one."""
    if value is None:
        return NOT_KNOWN
    amount = Decimal(value)
    if amount == 0 or abs(amount) >= 1:
        return f"${amount:,.2f}"
    cents, _, more = f"{Decimal(f'{amount:.{digits}g}').normalize():f}".partition(".")
    return f"${cents}.{more.ljust(2, '0')}"


def dollars_known(sums: Unpriced, value: Decimal, digits: int = 4) -> str:
    """As `dollars_of`, without the number of those that are not known."""
    return dollars(value, digits) if value or not sums.unknown else NOT_KNOWN


def dollars_of(sums: Unpriced, value: Decimal, digits: int = 4) -> str:
    """A sum of calls' money, and of how many the price is not known."""
    if not sums.unknown:
        return dollars(value, digits)
    return f"{dollars(value, digits)} + {sums.unknown:,} unknown" if value else NOT_KNOWN


def amount(value: Decimal | float, unit: str) -> str:
    return f"{value:,.0f} tokens" if unit == Budget.Unit.TOKENS else dollars(value)


def bar(budget: Budget, period: BudgetPeriod) -> SafeString:
    """What is spent and held of the amount, as a bar with its figures."""
    spent, held = (_share(value, budget.amount) for value in (period.spent, period.reserved))
    return format_html(
        '<span class="meter" title="{held} held, {left} left"><span class="meter-track {alarm}">'
        '<span class="meter-spent" style="width: {spent_width}%"></span>'
        '<span class="meter-held" style="width: {held_width}%"></span></span>'
        "<span>{spent} of {amount}</span></span>",
        held=amount(period.reserved, budget.unit),
        left=amount(period.left(budget.amount), budget.unit),
        alarm="meter-full" if spent >= 100 else "",
        spent_width=f"{min(spent, 100):.1f}",
        held_width=f"{min(held, max(100 - spent, 0)):.1f}",
        spent=amount(period.spent, budget.unit),
        amount=amount(budget.amount, budget.unit),
    )


def _share(value: Decimal, whole: Decimal) -> float:
    return float(100 * value / whole) if whole else 100.0


def chart_options() -> dict[str, Any]:
    """Of a bar chart of money, readable in both themes."""
    ticks = {"color": "#7c8698", "maxRotation": 0, "autoSkipPadding": 16}
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "index", "intersect": False},
        "scales": {
            "x": {"ticks": ticks, "grid": {"display": False}},
            "y": {"beginAtZero": True, "ticks": ticks, "grid": {}, "border": {"display": False}},
        },
        "plugins": {"legend": {"display": False}},
    }
