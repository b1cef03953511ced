"""Lowest cost: the cheapest target for a request of this size; targets of unknown price last."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import Field

from llm.routing.base import Candidate, Choice, Facts, NoSettings, Strategy
from llm.routing.features import Features

MILLION = Decimal(1_000_000)


class Settings(NoSettings):
    output_tokens: int = Field(
        500, ge=1, le=1_000_000, description="How long an answer is expected to be where the caller sets no limit."
    )


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    asked = features.input_tokens
    answer = min(filter(None, (features.max_tokens, settings.get("output_tokens", 500))))
    costs = [(candidate, facts.cost(candidate.target, asked, answer)) for candidate in candidates]
    ranked = sorted(costs, key=lambda found: (found[1] is None, found[1] or 0))
    shown = [_per_million(cost, asked + answer) for _, cost in ranked]
    return [Choice(candidate, _reason(shown, place)) for place, (candidate, _) in enumerate(ranked)]


def _per_million(cost: Decimal | None, tokens: int) -> str:
    if cost is None:
        return "an unknown price"
    rate = cost * MILLION / tokens
    return f"${rate:.2f}/M" if rate >= Decimal("0.01") or not rate else f"${rate:.4f}/M"


def _reason(shown: list[str], place: int) -> str:
    if place + 1 < len(shown):
        return f"lowest cost: {shown[place]} before {shown[place + 1]}"
    return f"lowest cost: {shown[place]}" + (" is the highest" if place and shown[place].startswith("$") else "")


STRATEGY = Strategy(
    "lowest_cost",
    "Lowest cost",
    "The target that is cheapest for the request's size; those of unknown price come last.",
    order,
    Settings,
)
