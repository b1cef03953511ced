"""Rules of routes: short CEL expressions over a request's features (`core.cel` says what bounds them).

What a rule sees are numbers and short text: of the metadata, the pairs that a chat may send (`text_pairs`). The worst
rules take some ten times as long as `hour > 0`, which is 0.5 ms, and the 20 targets of a route twenty times that.
"""

from typing import Any

from core.cel import MAX_TEXT, CelFault, Dialect
from core.validation import storable_text
from llm.routing.features import MAX_VALUE, Features, text_pairs

MAX_RULE = MAX_TEXT
NAMES = frozenset(
    {
        "messages",
        "input_tokens",
        "max_tokens",
        "tools",
        "images",
        "audio",
        "documents",
        "response_format",
        "metadata",
        "user",
        "agent",
        "hour",
        "weekday",
    }
)
_OURS = ("user_id", "agent", "session_id", "when_busy")  # no metadata of the caller's own
_RULES = Dialect(NAMES, ("metadata",), "rule", "metadata.tier, has(metadata.tier) or 'tier' in metadata")

RuleFault = CelFault
check_rule = _RULES.check
prepare = _RULES.prepare
matches = _RULES.holds


def known_to_rules(features: Features) -> dict[str, Any]:
    """The values of NAMES. `hour` and `weekday` (Monday is 1) are UTC.

    The metadata is text: the caller's own pairs, `user_id` and `agent`.
    """
    known: dict[str, Any] = {name: getattr(features, name) for name in NAMES - {"metadata", "hour", "weekday"}}
    for name in ("user", "agent", "response_format"):
        known[name] = storable_text(known[name][:MAX_VALUE])
    own = text_pairs({name: value for name, value in features.metadata.items() if name not in _OURS})
    metadata = {**own, "user_id": known["user"], "agent": known["agent"]}
    return {**known, "metadata": metadata, "hour": features.now.hour, "weekday": features.now.isoweekday()}
