"""List prices of models, from the data of genai-prices."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any


def list_price(vendor: str, model: str, at: datetime | None = None) -> tuple[Decimal, Decimal] | None:
    """USD for a million tokens in and out, at a time or now; None where it is not known.

    Of a price that depends on the length of the input it is the lowest tier's.
    """
    found = _priced(vendor, model.lower()) if vendor else None
    if found is None:
        return None
    prices = found.get_prices(at or datetime.now(UTC))
    given, taken = _base(prices, "input_mtok"), _base(prices, "output_mtok")
    return None if given is None or taken is None else (given, taken)


@lru_cache(maxsize=4096)
def _priced(vendor: str, model: str) -> Any:
    """The model's prices of all times, or None."""
    from genai_prices.data_snapshot import get_snapshot  # 0.3 s and 15 MB, for those who ask for a price

    providers = get_snapshot().providers
    provider = next((provider for provider in providers if provider.id == vendor), None)
    return provider.find_model(model, all_providers=providers) if provider else None


def _base(prices: Any, unit: str) -> Decimal | None:
    price = getattr(prices, unit, None)
    found = getattr(price, "base", price)
    return Decimal(found) if found is not None else None
