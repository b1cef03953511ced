"""What a model costs a tenant now, and whose price that is."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from tenants.permissions import authorize
from tenants.principal import Principal
from usage.list_prices import UnitPrices
from usage.prices import Quote, quote
from usage.vendors import vendor_of


@dataclass(frozen=True, slots=True)
class ExplainedQuote:
    provider: str
    model: str
    quote: Quote

    @property
    def source(self) -> str:
        return self.quote.source

    @property
    def known(self) -> bool:
        return self.quote.price is not None

    @property
    def markup_percent(self) -> Decimal:
        return self.quote.markup_percent

    @property
    def unit(self) -> UnitPrices | None:
        """For a call of few tokens; None when nobody knows."""
        return self.quote.price.of(1) if self.quote.price else None

    @property
    def tiers(self) -> list[int]:
        """Input tokens above which other prices count for a whole call."""
        rates = self.quote.price.rates.values() if self.quote.price else ()
        return sorted({start for tiers in rates for start, _ in tiers if start})


def price_quote(*, actor: Principal, provider: str, model: str) -> ExplainedQuote:
    """Raises InvalidRequest for a provider that is not there."""
    authorize(actor, "price.view")
    vendor = vendor_of(actor.tenant_id, provider)
    now = datetime.now(UTC)
    found = quote(tenant_id=actor.tenant_id, vendor=vendor, provider=provider, model=model, at=now)
    return ExplainedQuote(provider, model, found)
