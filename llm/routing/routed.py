"""Targets that choose for each request: a route among its candidates, and a model among its provider's keys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm.calls import CallContext
from llm.exceptions import RouteEmpty
from llm.routing import STRATEGIES
from llm.routing.base import Candidate, Choice, Facts, Keyed
from llm.routing.features import Features
from llm.targets import Leg, ModelTarget, Plan
from llm.wire import ChatRequest

MAX_REASON = 200  # characters, as usage records store it
PREFIX = "route"


@dataclass(frozen=True, slots=True)
class RoutedTarget:
    """The target `route/<slug>`; the request is made for the route and each leg has a model of its own."""

    slug: str
    strategy: str
    candidates: tuple[Candidate, ...]
    facts: Facts
    settings: Mapping[str, Any] = field(default_factory=dict)
    continues: bool = False

    @property
    def name(self) -> str:
        return f"{PREFIX}/{self.slug}"

    @property
    def model(self) -> str:
        return self.name

    def models(self) -> Sequence[ModelTarget]:
        return [candidate.target for candidate in self.candidates]

    def plan(self, request: ChatRequest, context: CallContext) -> Plan:
        """Raises RouteEmpty when no target can be tried."""
        legs = self.legs(Features(request, sticky=context.sticky, metadata=context.metadata))
        if not legs:
            raise RouteEmpty(f"The route '{self.slug}' has no target for this request.", param="model")
        return Plan(legs, self.slug, self.continues)

    def legs(self, features: Features) -> list[Leg]:
        """In the strategy's order, but for what is in trouble, which comes last."""
        choices = STRATEGIES[self.strategy].order(self.candidates, features, self.facts, self.settings)
        ranked = [leg for choice in choices for leg in self._legs(choice, features)]
        return [leg for _, leg in sorted(ranked, key=lambda found: found[0])]

    def _legs(self, choice: Choice, features: Features) -> Iterator[tuple[int, Leg]]:
        lacking = self.facts.lacks(choice.candidate.target, features.needs) if features.needs else ""
        for keyed in by_room(choice.candidate.keys, self.facts):
            if self.facts.is_open(keyed.target.endpoint):
                trouble, rank = "last: its breaker is open", 3
            elif lacking:
                trouble, rank = f"late: it takes no {lacking}", 2
            elif choice.candidate.failing:
                trouble, rank = "late: its provider failed the last test", 1
            else:
                trouble, rank = "", 0
            yield rank, Leg(keyed.target, _reason(choice.reason, _key(keyed), trouble), choice.variant)


@dataclass(frozen=True, slots=True)
class KeyedTarget:
    """The target `provider/model` of a provider with several keys."""

    keys: tuple[Keyed, ...]
    facts: Facts

    @property
    def name(self) -> str:
        return self.keys[0].target.name

    @property
    def model(self) -> str:
        return self.keys[0].target.model

    def models(self) -> Sequence[ModelTarget]:
        return [self.keys[0].target]

    def plan(self, request: ChatRequest, context: CallContext) -> Plan:
        keys = by_room(self.keys, self.facts)
        keys.sort(key=lambda keyed: self.facts.is_open(keyed.target.endpoint))
        return Plan([Leg(keyed.target, _reason("asked for by name", _key(keyed))) for keyed in keys])


def by_room(keys: Iterable[Keyed], facts: Facts) -> list[Keyed]:
    """The key first whose limits have most left; equals, such as keys without limits, by chance."""
    room = [(facts.room_left(keyed.target.endpoint), facts.roll(), place) for place, keyed in enumerate(keys)]
    found = list(keys)
    return [found[place] for _, _, place in sorted(room, key=lambda held: (-held[0], held[1]))]


def _key(keyed: Keyed) -> str:
    return f"key {keyed.label}" if keyed.label else ""


def _reason(*parts: str) -> str:
    text = ", ".join(filter(None, parts))
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"
