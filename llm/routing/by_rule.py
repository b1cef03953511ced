"""By rule: the targets whose rule the request meets, as they are listed; a target without a rule takes any."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm.routing.base import Candidate, Choice, Facts, Strategy
from llm.routing.cel import known_to_rules, matches
from llm.routing.features import Features

SHOWN = 120  # characters of a rule in a reason


def order(
    candidates: Sequence[Candidate], features: Features, facts: Facts, settings: Mapping[str, Any]
) -> list[Choice]:
    """Targets whose rule is not met are left out."""
    known = known_to_rules(features)
    return [
        Choice(candidate, _reason(candidate.rule))
        for candidate in candidates
        if not candidate.rule or matches(candidate.rule, known)
    ]


def _reason(rule: str) -> str:
    if not rule:
        return "by rule: takes what no rule before it took"
    text = " ".join(rule.split())
    return f"by rule: {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"


STRATEGY = Strategy(
    "by_rule",
    "By rule",
    "The targets whose rule (CEL) the request meets, in their order; one without a rule takes every request.",
    order,
    uses=frozenset({"rule"}),
)
