"""Lowest latency: the target whose first token has come soonest lately."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from llm.routing.base import Candidate, Choice, Facts, NoSettings, Strategy
from llm.routing.features import Features


class Settings(NoSettings):
    explore: float = Field(
        0.05, ge=0, le=1, description="The share of calls that go to a target whose time is not known, to learn it."
    )


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    """A target of unknown time comes first at the rate `explore`, else last; where no time is known, all as listed."""
    times = {index: _time(candidate, facts) for index, candidate in enumerate(candidates)}
    ranked = sorted(times, key=lambda index: times[index])
    unknown = [index for index in ranked if times[index] == math.inf]
    explored = None
    if unknown and len(unknown) < len(ranked) and facts.roll() < settings.get("explore", 0.05):
        explored = unknown[int(facts.roll() * len(unknown))]
        ranked.remove(explored)
        ranked.insert(0, explored)
    return [Choice(candidates[index], _reason(times, index, explored)) for index in ranked]


def _time(candidate: Candidate, facts: Facts) -> float:
    """Milliseconds by its fastest key."""
    known = [time for endpoint in candidate.endpoints if (time := facts.first_token_ms(endpoint)) is not None]
    return min(known, default=math.inf)


def _reason(times: Mapping[int, float], index: int, explored: int | None) -> str:
    if index == explored:
        return "lowest latency: tried to learn its time"
    if times[index] == math.inf:
        return "lowest latency: its time is not known"
    return f"lowest latency: first token in about {times[index]:.0f} ms"


STRATEGY = Strategy(
    "lowest_latency",
    "Lowest latency",
    "The target whose first token has come soonest lately.",
    order,
    Settings,
)
