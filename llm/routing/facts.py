"""What strategies know of this process, its providers and their prices."""

import random
from decimal import Decimal

from llm.targets import Endpoint, ModelTarget


class LiveFacts:
    """Nothing is known yet: no price, no time, no limit, and every endpoint is closed and idle."""

    def cost(self, target: ModelTarget, input_tokens: int, output_tokens: int) -> Decimal | None:
        return None

    def first_token_ms(self, endpoint: Endpoint) -> float | None:
        return None

    def in_flight(self, endpoint: Endpoint) -> int:
        return 0

    def is_open(self, endpoint: Endpoint) -> bool:
        return False

    def room_left(self, endpoint: Endpoint) -> float:
        return 1.0

    def lacks(self, target: ModelTarget, needs: frozenset[str]) -> str:
        return ""

    def roll(self) -> float:
        return random.random()  # noqa: S311 spreads calls, guards nothing


live_facts = LiveFacts()
