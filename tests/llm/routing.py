"""What the tests of routes share: facts that a test states, targets, and requests."""

from decimal import Decimal
from random import Random
from typing import Any

from llm.providers.base import ProviderConnection
from llm.routing.base import Candidate, Keyed
from llm.routing.features import Features
from llm.routing.routed import RoutedTarget
from llm.targets import Endpoint, ModelTarget
from llm.wire import ChatRequest


class Known:
    """Facts that a test states, by the name of the model (`p/a`) or of one of its keys (`p/a@key`)."""

    def __init__(self, seed: int = 1, **facts: dict[str, Any]) -> None:
        self._facts = facts
        self._random = Random(seed)

    def _of(self, fact: str, endpoint: Endpoint, default: Any) -> Any:
        found = self._facts.get(fact, {})
        name = f"{endpoint.provider}/{endpoint.model}"
        return found.get(f"{name}@{endpoint.key}", found.get(name, default))

    def cost(self, target: ModelTarget, input_tokens: int, output_tokens: int) -> Decimal | None:
        price = self._facts.get("price", {}).get(target.name)
        if price is None:
            return None
        return (Decimal(price[0]) * input_tokens + Decimal(price[1]) * output_tokens) / 1_000_000

    def first_token_ms(self, endpoint: Endpoint) -> float | None:
        return self._of("first_token_ms", endpoint, None)

    def in_flight(self, endpoint: Endpoint) -> int:
        return self._of("in_flight", endpoint, 0)

    def is_open(self, endpoint: Endpoint) -> bool:
        return self._of("open", endpoint, False)

    def room_left(self, endpoint: Endpoint) -> float:
        return self._of("room", endpoint, 1.0)

    def lacks(self, target: ModelTarget, needs: frozenset[str]) -> str:
        lacking = needs - self._facts.get("takes", {}).get(target.name, needs)
        return min(lacking, default="")

    def roll(self) -> float:
        return self._random.random()


def candidate(model: str, *keys: str, **fields: Any) -> Candidate:
    connections = [ProviderConnection("p", "scripted", key_id=key) for key in keys or ("",)]
    return Candidate(tuple(Keyed(ModelTarget(c, model), c.key_id) for c in connections), **fields)


def features(text: str = "Hello", *, sticky: str = "", metadata: Any = None, **params: Any) -> Features:
    return Features(ChatRequest("", [{"role": "user", "content": text}], params), sticky=sticky, metadata=metadata)


def route(strategy: str, *candidates: Candidate, facts: Any = None, **settings: Any) -> RoutedTarget:
    return RoutedTarget("r", strategy, candidates, facts or Known(), settings)


def order(target: RoutedTarget, asked: Features | None = None) -> list[tuple[str, str]]:
    return [(leg.target.model, leg.reason) for leg in target.legs(asked or features())]


def models(target: RoutedTarget, asked: Features | None = None) -> list[str]:
    return [model for model, _ in order(target, asked)]


A, B, C = candidate("a"), candidate("b"), candidate("c")
