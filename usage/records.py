"""One call of a provider, as it is handed over to be stored and paid."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from usage.budgets import Amount, Payer
from usage.models import UsageRecord
from usage.prices import MOST_TOKENS as MOST_TOKENS
from usage.prices import Quote, Tokens


def call_id(run_id: UUID, fence: int, number: int) -> UUID:
    """The same for whoever records this call of a run, so that it is paid once."""
    return uuid5(run_id, f"call {fence}:{number}")


@dataclass(frozen=True, slots=True)
class CallRecord:
    """`began` is when the call did. `tokens_certain` says that the provider counted them."""

    id: UUID
    payer: Payer
    began: datetime
    provider: str
    model: str
    quote: Quote
    tokens: Tokens
    tokens_certain: bool
    fence: int = 0
    number: int = 0
    cached: bool = False
    total_ms: int = 0
    first_token_ms: int | None = None
    told: dict[str, Any] = field(default_factory=dict)  # further columns: route, reason, leg, error_code, …

    @property
    def price(self) -> Decimal | None:
        """What the provider asks for the tokens, in US dollars; for none it asks nothing, whatever the price is."""
        return self.quote.cost(self.tokens) if self.tokens.total else Decimal(0)

    @property
    def spent(self) -> Amount:
        """What budgets count: nothing for an answer that no provider was asked for."""
        if self.cached:
            return Amount(Decimal(0), 0)
        return Amount(self.quote.charge(self.price), self.tokens.total)

    def row(self) -> dict[str, Any]:
        """The columns of UsageRecord."""
        payer, tokens, price = self.payer, self.tokens, self.price
        cost = Decimal(0) if self.cached and price is not None else price
        return {
            "id": self.id,
            "tenant_id": payer.tenant_id,
            "created_at": self.began,
            "run_id": payer.run_id,
            "fence": self.fence,
            "number": self.number,
            "session_id": payer.session_id,
            "agent": payer.agent,
            "agent_id": payer.agent_id,
            "agent_version": payer.agent_version,
            "actor_kind": payer.actor_kind,
            "actor_id": payer.actor_id,
            "actor_label": payer.actor_label,
            "end_user": payer.end_user,
            "provider": self.provider,
            "model": self.model,
            "key_id": "",
            "route": "",
            "variant": "",
            "reason": "",
            "leg": 0,
            "attempt": 1,
            "cached": self.cached,
            "input_tokens": _within(tokens.input),
            "output_tokens": _within(tokens.output),
            "cached_tokens": _within(tokens.cached),
            "cache_write_tokens": _within(tokens.cache_write),
            "reasoning_tokens": _within(tokens.reasoning),
            "certainty": self._certainty(price),
            "prices": self.quote.snapshot(tokens.input),
            "cost": cost,
            "charge": self.quote.charge(cost),
            "saved": price if self.cached and price is not None else Decimal(0),
            "first_token_ms": None if self.first_token_ms is None else _within(self.first_token_ms),
            "total_ms": _within(self.total_ms),
            "finish_reason": "",
            "error_code": "",
            **self.told,
        }

    def _certainty(self, price: Decimal | None) -> str:
        if price is None:
            return UsageRecord.Certainty.UNKNOWN
        return UsageRecord.Certainty.EXACT if self.tokens_certain else UsageRecord.Certainty.ESTIMATED


def _within(count: int) -> int:
    """What the columns take."""
    return min(max(count, 0), MOST_TOKENS)
