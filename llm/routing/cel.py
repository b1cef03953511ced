"""Rules of routes: short CEL expressions over a request's features, whose evaluation has a bound.

A rule has at most MAX_RULE characters, checked before it is parsed: the parser's stack grows with the text. It may go
through one list once (`all`, `exists`, `exists_one`, `filter`, `map`) and then adds nothing, since nested passes and
passes over lists put together take seconds. It calls no function whose cost its arguments decide, regular expressions
among them. Metadata is cut to MAX_ENTRIES values of MAX_TEXT characters and MAX_DEPTH levels. So a rule takes
microseconds, and some thirty milliseconds at the worst.
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from itertools import islice
from typing import Any

from core.validation import storable_text
from llm.routing.features import Features

MAX_RULE = 500  # characters
MAX_TEXT = 1000  # characters of one string in the metadata
MAX_ENTRIES = 500  # values in the metadata, those of its lists and objects included
MAX_DEPTH = 4
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
_PASS = re.compile(r"\b(?:all|exists|exists_one|existsOne|filter|map)\b")
_BOUND = re.compile(r"\b(?:all|exists|exists_one|existsOne|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_PLACE = re.compile(r"<input>:(\d+):(\d+)")
_LONG = 2**63


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
    passes = len(_PASS.findall(text))
    if passes > 1 or (passes and "+" in text):
        message = "A rule may go through a list once, and adds nothing then: all, exists, exists_one, filter, map."
        raise RuleFault(message)
    for name in program.functions():
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            raise _unknown("function", name, text, FUNCTIONS)
    for name in sorted(set(program.variables()) - NAMES - set(_BOUND.findall(text))):
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
    """The values of NAMES. `hour` and `weekday` (Monday is 1) are UTC."""
    known: dict[str, Any] = {name: getattr(features, name) for name in NAMES - {"metadata", "hour", "weekday"}}
    for name in ("user", "agent"):
        known[name] = _text(known[name])
    metadata = _Bounded().of(features.metadata, MAX_DEPTH)
    return {**known, "metadata": metadata, "hour": features.now.hour, "weekday": features.now.isoweekday()}


def _text(text: str) -> str:
    return storable_text(text[:MAX_TEXT])


class _Bounded:
    """Copies what a caller sent until MAX_ENTRIES values are copied; what is too much or too deep is left out."""

    def __init__(self) -> None:
        self._left = MAX_ENTRIES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        match value:
            case None | bool() | float():
                return value
            case int():
                return value if -_LONG <= value < _LONG else None
            case str():
                return _text(value)
            case Mapping() if depth:
                kept = islice(value.items(), max(self._left, 0))
                return {_text(str(key)): self.of(item, depth - 1) for key, item in kept if self._left > 0}
            case list() if depth:
                return [self.of(item, depth - 1) for item in islice(value, max(self._left, 0)) if self._left > 0]
        return None
