from datetime import datetime

from core.errors import ApplicationError, InvalidRequest


class BudgetExceeded(ApplicationError):
    """A hard budget has no room for a call, or for more of one; `retry_after` is until its next period begins."""

    status, type, code = 429, "budget_exceeded", "budget_exceeded"


def budget_exceeded(budget: str, subject: str, resets_at: datetime | None, now: datetime) -> BudgetExceeded:
    whose = f" of {subject}" if subject else ""
    when = f"it resets at {resets_at:%Y-%m-%dT%H:%M:%SZ}" if resets_at else "it does not reset by itself"
    message = f"The budget '{budget}'{whose} has no room for this: {when}. Raising its amount takes effect at once."
    return BudgetExceeded(message, retry_after=max((resets_at - now).total_seconds(), 1) if resets_at else None)


class PriceUnknown(InvalidRequest):
    """Money is capped, and nobody knows what the model costs: refused, since it might cost anything."""

    code = "price_unknown"


def price_unknown(budget: str, model: str) -> PriceUnknown:
    message = f"The budget '{budget}' caps money and the model '{model}' has no known price: set one at /v1/prices."
    return PriceUnknown(message, param="model")
