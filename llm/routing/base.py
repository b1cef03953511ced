"""What a strategy is given and gives: targets in, the same targets in the order to try them out, each with a reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from llm.routing.features import Features
from llm.targets import Endpoint, ModelTarget


class Keyed(NamedTuple):
    """A model asked with one of its provider's keys; `label` is "" for the provider's only key."""

    target: ModelTarget
    label: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target of a route: one model, by each of its provider's keys. `failing`: the provider failed its last test."""

    keys: tuple[Keyed, ...]
    weight: int = 1
    rule: str = ""
    variant: str = ""
    failing: bool = False

    @property
    def target(self) -> ModelTarget:
        return self.keys[0].target

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def endpoints(self) -> list[Endpoint]:
        return [keyed.target.endpoint for keyed in self.keys]


class Choice(NamedTuple):
    """`reason` is for people; `variant` the side of an A/B test that the call counts for."""

    candidate: Candidate
    reason: str
    variant: str = ""


class Facts(Protocol):
    """What is known now of models and endpoints. Asked for every call: it answers from memory and never waits."""

    def cost(self, target: ModelTarget, input_tokens: int, output_tokens: int) -> Decimal | None:
        """US dollars; None when the price is not known."""

    def first_token_ms(self, endpoint: Endpoint) -> float | None:
        """The moving first-token time; None when nobody has asked lately."""

    def in_flight(self, endpoint: Endpoint) -> int: ...

    def is_open(self, endpoint: Endpoint) -> bool:
        """Does its breaker refuse calls?"""

    def room_left(self, endpoint: Endpoint) -> float:
        """The share from 0 to 1 of its key's limits that the last minute has left."""

    def lacks(self, target: ModelTarget, needs: frozenset[str]) -> str:
        """The first of `needs` that the model is known not to take; "" for none."""

    def roll(self) -> float:
        """A random number from 0 to below 1, for strategies that spread or explore."""


Order = Callable[[Sequence[Candidate], Features, Facts, Mapping[str, Any]], list[Choice]]


class NoSettings(BaseModel):
    """The schema of `Route.settings`; a strategy with settings has its own."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Strategy:
    """`order` answers the candidates that it takes, the best first; its settings have the route's id as `route`.

    `uses` names what of a target counts for it.
    """

    slug: str
    title: str
    description: str
    order: Order
    Settings: type[BaseModel] = NoSettings
    uses: frozenset[str] = frozenset()
