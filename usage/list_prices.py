"""What vendors of models ask for: the data of `genai-prices` (Pydantic, MIT licence), in usage/data/prices.json.

The package itself takes 97 MB once imported; only `manage.py prices_update` does.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

FREE = "free"  # the vendor of what runs on this machine
DATA = Path(__file__).parent / "data" / "prices.json"
KINDS_OF_TOKENS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """US dollars for a million tokens of each kind; None where a vendor has no price of its own for the kind."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None


@dataclass(frozen=True)
class ListPrice:
    """The price of one model at one time; from `tiers` thresholds on, all tokens of a call cost the tier's price."""

    rates: Mapping[str, Sequence[tuple[int, Decimal]]]

    def of(self, input_tokens: int) -> UnitPrices:
        """The unit prices of a call that takes in so many tokens."""
        return self._flat or self._of(input_tokens)

    @cached_property
    def _flat(self) -> UnitPrices | None:
        """The unit prices of every call; None when they depend on its size."""
        return self._of(0) if all(len(tiers) == 1 for tiers in self.rates.values()) else None

    def _of(self, input_tokens: int) -> UnitPrices:
        found = {name: _rate(tiers, input_tokens) for name, tiers in self.rates.items()}
        zero = Decimal(0)
        return UnitPrices(
            found.get("input", zero), found.get("output", zero), found.get("cached"), found.get("cache_write")
        )


def _rate(tiers: Sequence[tuple[int, Decimal]], input_tokens: int) -> Decimal:
    return next(price for start, price in reversed(tiers) if input_tokens > start or not start)


def list_price(vendor: str, model: str, at: datetime) -> ListPrice | None:
    """The vendor's price at that time; None for a model whose price is not known."""
    found = _find(vendor, model.lower())
    return _price_at(found, at) if found else None


@lru_cache(maxsize=1024)
def vendor_of_url(base_url: str) -> str:
    """The vendor who serves at an address; "" for an unknown one."""
    vendors = _vendors()
    found = (name for name, vendor in vendors.items() if re.match(rf"(?:{vendor['api']})(?![\w.-])", base_url))
    return next(found, "")


@lru_cache(maxsize=4096)
def _find(vendor: str, model: str) -> list[dict[str, Any]] | None:
    """The prices of the model in their order; of a model whose name ends in a date, also under the dashed one."""
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", model)
    names = (model,) if dashed == model else (model, dashed)
    return next((prices for name in names if (prices := _search(vendor, name)) is not None), None)


def _search(vendor: str, model: str) -> list[dict[str, Any]] | None:
    held = _vendors().get(vendor)
    if held is None:
        return None
    shelves = [held, *(_vendors()[other] for other in held["falls_back_to"] if other in _vendors())]
    models = (entry for shelf in shelves for entry in shelf["models"])
    return next((entry["prices"] for entry in models if _matches(entry["match"], model)), None)


def _matches(clause: dict[str, Any], text: str) -> bool:
    (name, value), *_ = clause.items()
    match name:
        case "or":
            return any(_matches(part, text) for part in value)
        case "and":
            return all(_matches(part, text) for part in value)
        case "regex":
            return bool(re.search(value, text))
    wanted = value.lower()
    tests = {
        "equals": text == wanted,
        "starts_with": text.startswith(wanted),
        "ends_with": text.endswith(wanted),
        "contains": wanted in text,
    }
    return bool(tests[name])


def _price_at(prices: list[dict[str, Any]], at: datetime) -> ListPrice:
    """The last one that is in force; the first when none is."""
    held = next((price for price in reversed(prices) if _in_force(price, at.astimezone(UTC))), prices[0])
    return ListPrice({name: _tiers(held[name]) for name in KINDS_OF_TOKENS if name in held})


def _tiers(told: list[Any]) -> list[tuple[int, Decimal]]:
    base, *tiers = told
    return [(0, Decimal(base)), *((start, Decimal(price)) for start, price in tiers)]


def _in_force(price: dict[str, Any], at: datetime) -> bool:
    if "start_date" in price:
        return at.date() >= date.fromisoformat(price["start_date"])
    if "start_time" not in price:
        return True
    start, end = _utc(price["start_time"]), _utc(price["end_time"])
    return start <= at.time() < end if start <= end else at.time() >= start or at.time() < end


def _utc(text: str) -> time:
    """The data's times of day, whose offset is zero."""
    return time.fromisoformat(text).replace(tzinfo=None)


@cache
def _vendors() -> dict[str, Any]:
    vendors: dict[str, Any] = json.loads(DATA.read_text())["vendors"]
    return vendors
