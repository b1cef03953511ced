"""List prices of models as the matrix shows them."""

from datetime import UTC, datetime
from decimal import Decimal

from usage import list_prices


def list_price(vendor: str, model: str, at: datetime | None = None) -> tuple[Decimal, Decimal] | None:
    """USD for a million tokens in and out, at a time or now; None where it is not known.

    Of a price that depends on the length of the input it is the lowest tier's.
    """
    found = list_prices.list_price(vendor, model, at or datetime.now(UTC)) if vendor else None
    if found is None or not {"input", "output"} <= found.rates.keys():
        return None
    unit = found.of(0)
    return unit.input, unit.output
