"""Rules of routes: short CEL expressions over a request's features, whose evaluation has a bound.

A rule has at most MAX_RULE characters, checked before it is parsed: the parser's stack grows with the text. What it
sees are numbers and short text: of the metadata, the pairs that a chat may send (`text_pairs`). It goes through nothing
(`all`, `exists`, `exists_one`, `filter` and `map` are refused), asks the metadata for single keys, and calls no
function whose cost its arguments decide, regular expressions among them. So each part of its text is worked out once,
on little: the worst rules take some ten times as long as `hour > 0`, which is 0.5 ms, and the 20 targets of a route
twenty times that.
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from typing import Any

from core.validation import storable_text
from llm.routing.features import MAX_VALUE, Features, text_pairs

MAX_RULE = 500  # characters
COMPILED = 2048  # rules kept, of all tenants

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
FUNCTIONS = frozenset({"size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "dyn"})
_PASS = re.compile(r"\b(all|exists|exists_one|existsOne|filter|map)(?:\s|//[^\n]*\n)*\(")
# The metadata as a whole: not asked for a key. What follows a quote at once is in a text, or no CEL.
_WHOLE = re.compile(r"(?:(\bin)\s+)?(?<!['\"])\bmetadata\b(?!\s*[.\[])")
_OURS = ("user_id", "agent", "session_id", "when_busy")  # no metadata of the caller's own
_PLACE = re.compile(r"<input>:(\d+):(\d+)")


class RuleFault(ValueError):
    """Why a rule is refused, for its author; with the line and column where there is one."""


@cache
def _compiler() -> Any:
    """The package's extension alone: its `__init__` imports a command line, which takes 370 ms and 25 MB."""
    package = importlib.util.find_spec("cel")
    places = package.submodule_search_locations if package else None
    found = PathFinder.find_spec("cel", list(places or ()))
    if found is None or found.loader is None:
        raise ImportError("The package common-expression-language is not installed.")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def check_rule(text: str) -> None:
    """Raises RuleFault, which names the first fault."""
    _compiled(text)


def prepare(text: str) -> None:
    """Compile a stored rule ahead of the calls, whose thread must not wait for it."""
    with suppress(RuleFault):
        _compiled(text)


def matches(text: str, known: Mapping[str, Any]) -> bool:
    """Does the request of which this is `known` meet the rule? One that fails, or is not true or false, is not met."""
    try:
        return _compiled(text).execute(known) is True
    except Exception:  # a division by zero, a missing key, mixed types: CEL's own errors have no common class
        return False


@lru_cache(maxsize=COMPILED)
def _compiled(text: str) -> Any:
    if len(text) > MAX_RULE:
        raise RuleFault(f"A rule has at most {MAX_RULE} characters; this one has {len(text)}.")
    try:
        program = _compiler().compile(text)
    except ValueError as error:
        raise RuleFault(_syntax(str(error))) from None
    _refuse_unbounded(text, program)
    return program


def _syntax(words: str) -> str:
    place = _PLACE.search(words)
    where = f" at line {place[1]}, column {place[2]}" if place else ""
    return f"This is no CEL expression: there is a fault{where}."


def _refuse_unbounded(text: str, program: Any) -> None:
    if (found := _PASS.search(text)) is not None:
        raise RuleFault(f"A rule goes through no list: '{found[1]}' is not possible{_at(text, found[1])}.")
    if any(found[1] is None for found in _WHOLE.finditer(text)):
        message = "A rule asks the metadata for single keys: metadata.tier, has(metadata.tier) or 'tier' in metadata."
        raise RuleFault(message)
    for name in program.functions():
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            raise _unknown("function", name, text, FUNCTIONS)
    for name in sorted(set(program.variables()) - NAMES):
        raise _unknown("name", name, text, NAMES)


def _unknown(kind: str, name: str, text: str, known: Iterable[str]) -> RuleFault:
    return RuleFault(f"The {kind} '{name}' is not known{_at(text, name)}. Known: {', '.join(sorted(known))}.")


def _at(text: str, name: str) -> str:
    """Where a word stands in a rule."""
    found = re.search(rf"\b{re.escape(name)}\b", text)
    if found is None:
        return ""
    line = text.count("\n", 0, found.start()) + 1
    return f" at line {line}, column {found.start() - text.rfind(chr(10), 0, found.start())}"


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
