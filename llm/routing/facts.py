"""What strategies know of this process, its providers and their prices."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from llm.targets import Endpoint, ModelTarget

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
        return None

    def in_flight(self, endpoint: Endpoint) -> int:
        return 0

    def is_open(self, endpoint: Endpoint) -> bool:
        return False

    def room_left(self, endpoint: Endpoint) -> float:
        return 1.0

    def roll(self) -> float:
        return random.random()  # noqa: S311 spreads calls, guards nothing


def facts_of(targets: Iterable[ModelTarget]) -> LiveFacts:
    """Read with a route, in a thread that may ask the database; a plan, made for each call, may not."""
    return LiveFacts()


live_facts = LiveFacts()
