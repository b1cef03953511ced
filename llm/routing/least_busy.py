"""Least busy: the target with the fewest calls under way, by the keys that it has."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm.routing.base import Candidate, Choice, Facts, Strategy
from llm.routing.features import Features


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    """Equally busy ones are taken by chance, so that idle targets share the calls."""
    calls = [(candidate, sum(map(facts.in_flight, candidate.endpoints))) for candidate in candidates]
    ranked = sorted(calls, key=lambda found: (found[1] / len(found[0].keys), facts.roll()))
    return [Choice(candidate, f"least busy: {_calls(count)} under way") for candidate, count in ranked]


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


STRATEGY = Strategy("least_busy", "Least busy", "The target with the fewest calls under way from this server.", order)
