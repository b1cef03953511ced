"""Weighted: each call goes to a target with the probability of its weight; the others stay as fallbacks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llm.routing.base import Candidate, Choice, Facts, Strategy
from llm.routing.features import Features


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    """A weighted shuffle without replacement (Efraimidis and Spirakis, 2006). Weight 0 is a fallback only."""
    drawn = sorted(candidates, key=lambda candidate: _draw(candidate.weight, facts.roll()))
    total = sum(candidate.weight for candidate in candidates)
    return [Choice(candidate, _reason(place, candidate, total)) for place, candidate in enumerate(drawn)]


def _draw(weight: int, roll: float) -> float:
    """Exponentially distributed with the rate `weight`: the smallest of several is each one's by its weight."""
    return -math.log(1.0 - roll) / weight if weight else math.inf


def _reason(place: int, candidate: Candidate, total: int) -> str:
    if place:
        return "weighted: not drawn, a fallback"
    return f"weighted: drawn with weight {candidate.weight} of {total}"


STRATEGY = Strategy(
    "weighted",
    "Weighted",
    "Calls are spread by weight; the targets that were not drawn are fallbacks.",
    order,
    uses=frozenset({"weight"}),
)
