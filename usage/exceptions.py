from datetime import datetime
from decimal import Decimal

from core.errors import ApplicationError, InvalidRequest


class BudgetExceeded(ApplicationError):
    """A hard budget has no room for a call, or for more of one; `retry_after` is until its next period begins.

    `unit` and `left` say what there is of the budget that refused.
    """

    status, type, code = 429, "budget_exceeded", "budget_exceeded"

    def __init__(self, message: str, *, unit: str, left: Decimal, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.unit = unit
        self.left = left


def budget_exceeded(
    budget: str,
    whose: str,
    *,
    unit: str,
    needed: Decimal,
    left: Decimal,
    amount: Decimal,
    resets_at: datetime | None,
    now: datetime,
) -> BudgetExceeded:
    """Waiting is of no use to who needs more than the whole `amount`, which the message says."""
    left = max(left, Decimal(0))
    sums = f"about {_plain(needed, unit)} {'are' if unit == 'tokens' else 'is'} needed and {_plain(left, unit)} left"
    if needed > amount:
        then = "it is for smaller calls: lower max_tokens"
    elif resets_at:
        then = f"it resets at {resets_at:%Y-%m-%dT%H:%M:%SZ}"
    else:
        then = "it does not reset by itself"
    message = f"The budget '{budget}'{f' of {whose}' if whose else ''} has no room for this, {sums}; {then}."
    wait = max((resets_at - now).total_seconds(), 1) if resets_at else None
    return BudgetExceeded(message, unit=unit, left=left, retry_after=wait)


def _plain(value: Decimal, unit: str) -> str:
    return f"{value:.0f} tokens" if unit == "tokens" else f"{value:.6f} US dollars"


class PriceUnknown(InvalidRequest):
    """Money is capped, and nobody knows what the model costs: refused, since it might cost anything."""

    code = "price_unknown"


def price_unknown(budget: str, model: str) -> PriceUnknown:
    message = f"The budget '{budget}' caps money and the model '{model}' has no known price: set one at /v1/prices."
    return PriceUnknown(message, param="model")
