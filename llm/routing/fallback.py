"""Ordered fallback: the targets as they are listed."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm.routing.base import Candidate, Choice, Facts, Strategy
from llm.routing.features import Features


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    return [
        Choice(candidate, f"fallback: number {place} of {len(candidates)}")
        for place, candidate in enumerate(candidates, 1)
    ]


STRATEGY = Strategy("fallback", "Ordered fallback", "The first target; the next ones in turn when one fails.", order)
