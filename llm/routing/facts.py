"""What strategies know of this process, its providers and their prices."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from llm.capabilities import NEEDS, capabilities_of
from llm.catalog.matrix import Capabilities
from llm.door import flow, health
from llm.pricing import quote_of
from llm.targets import Endpoint, ModelTarget
from usage.prices import Quote, Tokens

Cost = Callable[[int, int], Decimal | None]  # of input and output tokens, in US dollars


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """`costs` and `lacking` (what a model is known not to take) are by `provider/model`, as they were read."""

    costs: Mapping[str, Cost] = field(default_factory=dict)
    lacking: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def cost(self, target: ModelTarget, input_tokens: int, output_tokens: int) -> Decimal | None:
        known = self.costs.get(target.name)
        return known(input_tokens, output_tokens) if known else None

    def lacks(self, target: ModelTarget, needs: frozenset[str]) -> str:
        return min(needs & self.lacking.get(target.name, frozenset()), default="")

    def first_token_ms(self, endpoint: Endpoint) -> float | None:
        return health.first_token_ms(endpoint)

    def in_flight(self, endpoint: Endpoint) -> int:
        return health.in_flight(endpoint)

    def is_open(self, endpoint: Endpoint) -> bool:
        return health.is_open(endpoint)

    def room_left(self, endpoint: Endpoint) -> float:
        return flow.room_left(endpoint)

    def roll(self) -> float:
        return random.random()  # noqa: S311 spreads calls, guards nothing


def facts_of(targets: Iterable[ModelTarget]) -> LiveFacts:
    """Read with a route, in a thread that may ask the database; a plan, made for each call, may not."""
    costs: dict[str, Cost] = {}
    lacking: dict[str, frozenset[str]] = {}
    now = datetime.now(UTC)
    for target in targets:
        tenant_id = target.connection.tenant_id
        assert tenant_id is not None  # a route's targets are a tenant's
        costs[target.name] = partial(_cost, quote_of(tenant_id, target, now))
        lacking[target.name] = _lacking(capabilities_of(target.connection, target.model))
    return LiveFacts(costs, lacking)


def _cost(quote: Quote, input_tokens: int, output_tokens: int) -> Decimal | None:
    return quote.cost(Tokens(input_tokens, output_tokens))


def _lacking(able: Capabilities) -> frozenset[str]:
    return frozenset(need for need, name in NEEDS.items() if getattr(able, name) is False)


live_facts = LiveFacts()
