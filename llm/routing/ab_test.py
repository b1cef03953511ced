"""A/B test: everybody is assigned to one variant by weight and stays with it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from llm.routing.base import Candidate, Choice, Facts, NoSettings, Strategy
from llm.routing.features import Features


class Settings(NoSettings):
    salt: str = Field("", max_length=63, description="Another salt assigns everybody anew.")


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    """The assigned variant, then the others as fallbacks, whose calls count for the assigned one.

    Weighted rendezvous hashing: of a change of weights it moves no more people than the change itself needs.
    """
    sticky = features.sticky or str(facts.roll())
    salt = f"{settings.get('route', '')}\0{settings.get('salt', '')}"
    ranked = sorted(candidates, key=lambda candidate: _distance(candidate, salt, sticky))
    assigned = ranked[0].variant
    reasons = [f"A/B test: assigned to {assigned}", f"A/B test: a fallback of {assigned}"]
    return [Choice(candidate, reasons[place > 0], assigned) for place, candidate in enumerate(ranked)]


def _distance(candidate: Candidate, salt: str, sticky: str) -> float:
    """Exponentially distributed with the rate of the weight: the nearest variant is each one's by its weight."""
    if not candidate.weight:
        return math.inf
    seed = "\0".join((salt, candidate.variant, sticky)).encode("utf-8", "surrogatepass")
    drawn = (int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest()) + 1) / 2**64
    return -math.log(drawn) / candidate.weight


STRATEGY = Strategy(
    "ab_test",
    "A/B test",
    "Everybody is assigned to one variant by weight and stays with it; the report compares the variants.",
    order,
    Settings,
    uses=frozenset({"weight", "variant"}),
)
