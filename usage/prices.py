"""What a call costs: the tenant's own price of a model where it has one, else the vendor's list price."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from core.kept import Kept
from usage.list_prices import FREE, KINDS_OF_TOKENS, ListPrice, list_price
from usage.models import Price

MILLION = Decimal(1_000_000)
MONEY_STEP = Decimal("1e-12")
MOST_TOKENS = 2**31 - 1  # what the columns take

_own: Kept[UUID, list[Price]] = Kept()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one call. `input` includes the `cached` ones and those of a `cache_write`, `output` the `reasoning` ones."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def plus(self, other: "Tokens") -> "Tokens":
        """The two together, within what the columns take."""
        return Tokens(
            min(self.input + other.input, MOST_TOKENS),
            min(self.output + other.output, MOST_TOKENS),
            min(self.cached + other.cached, MOST_TOKENS),
            min(self.cache_write + other.cache_write, MOST_TOKENS),
            min(self.reasoning + other.reasoning, MOST_TOKENS),
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """A model's price for a tenant at one time; `price` None when nobody knows it. `source` says whose price it is."""

    price: ListPrice | None
    source: str
    markup_percent: Decimal = Decimal(0)

    def cost(self, tokens: Tokens) -> Decimal | None:
        """What the provider asks, in US dollars."""
        if self.price is None:
            return None
        unit = self.price.of(tokens.input)
        plain = max(tokens.input - tokens.cached - tokens.cache_write, 0)
        total = plain * unit.input + tokens.output * unit.output
        total += tokens.cached * (unit.input if unit.cached is None else unit.cached)
        total += tokens.cache_write * (unit.input if unit.cache_write is None else unit.cache_write)
        return (total / MILLION).quantize(MONEY_STEP)

    def charge(self, cost: Decimal | None) -> Decimal | None:
        """`cost` with the tenant's mark-up."""
        if cost is None or not self.markup_percent:
            return cost
        return (cost * (100 + self.markup_percent) / 100).quantize(MONEY_STEP)

    def snapshot(self, input_tokens: int) -> dict[str, Any] | None:
        """The unit prices (US dollars for a million tokens) as a record keeps them."""
        if self.price is None:
            return None
        unit = self.price.of(input_tokens)
        kinds = {"input": unit.input, "output": unit.output, "cached": unit.cached, "cache_write": unit.cache_write}
        told = {name: str(value) for name, value in kinds.items() if value is not None}
        return {**told, "source": self.source, "markup_percent": str(self.markup_percent)}


_FREE_PRICE = ListPrice({name: [(0, Decimal(0))] for name in ("input", "output")})


def quote(*, tenant_id: UUID, vendor: str, provider: str, model: str, at: datetime) -> Quote:
    """`vendor` as `usage.list_prices` knows it, FREE, or ""; `provider` is the provider's slug."""
    own = _closest(_prices(tenant_id), provider, model, at)
    markup = own.markup_percent if own else Decimal(0)
    if own is not None and own.input is not None:
        return Quote(_own_price(own.input, own.output, own.cached, own.cache_write), "own", markup)
    if vendor == FREE:
        return Quote(_FREE_PRICE, FREE, markup)
    listed = list_price(vendor, model, at) if vendor else None
    return Quote(listed, f"list of {vendor}" if listed else "unknown", markup)


def forget_prices(tenant_id: UUID) -> None:
    """After a change: calls in this process see it at once."""
    _own.forget(tenant_id)


def _prices(tenant_id: UUID) -> list[Price]:
    return _own.get(tenant_id, lambda: list(Price.objects.filter(tenant_id=tenant_id)))


def _closest(prices: Sequence[Price], provider: str, model: str, at: datetime) -> Price | None:
    """The most specific one, and of those the latest in force."""
    fitting = [price for price in prices if price.effective_from <= at and _fits(price, provider, model)]
    return max(fitting, key=_closeness, default=None)


def _fits(price: Price, provider: str, model: str) -> bool:
    if price.provider and price.provider != provider:
        return False
    return model.startswith(price.model[:-1]) if price.model.endswith("*") else price.model == model


def _closeness(price: Price) -> tuple[bool, bool, int, datetime]:
    return not price.model.endswith("*"), bool(price.provider), len(price.model), price.effective_from


@lru_cache(maxsize=1024)
def _own_price(*unit: Decimal | None) -> ListPrice:
    """`unit` is of KINDS_OF_TOKENS, in their order."""
    named = zip(KINDS_OF_TOKENS, unit, strict=True)
    return ListPrice({name: [(0, value)] for name, value in named if value is not None})
