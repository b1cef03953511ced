"""Short CEL expressions of tenants, whose evaluation has a bound.

An expression has at most MAX_TEXT characters, checked before it is parsed: the parser's stack grows with the text. It
goes through nothing (`all`, `exists`, `exists_one`, `filter` and `map` are refused), asks maps for single keys, and
calls no function whose cost its arguments decide, regular expressions among them. So each part of its text is worked
out once, on what it is given: numbers and text, which the caller keeps short.
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from typing import Any

MAX_TEXT = 500  # characters
COMPILED = 2048  # expressions kept, of all tenants
FUNCTIONS = frozenset({"size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "dyn"})
_PASS = re.compile(r"\b(all|exists|exists_one|existsOne|filter|map)(?:\s|//[^\n]*\n)*\(")
_PLACE = re.compile(r"<input>:(\d+):(\d+)")


class CelFault(ValueError):
    """Why an expression is refused, for its author; with the line and column where there is one."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The expressions of one use. `names` are what they know; the `maps` among them are asked for single keys.

    `noun` is what their authors call one, and `examples` how a map is asked.
    """

    names: frozenset[str]
    maps: tuple[str, ...]
    noun: str
    examples: str

    def check(self, text: str) -> None:
        """Raises CelFault, which names the first fault."""
        _compiled(self, text)

    def prepare(self, text: str) -> None:
        """Compile a stored expression ahead of its use, which must not wait for it."""
        with suppress(CelFault):
            _compiled(self, text)

    def holds(self, text: str, known: Mapping[str, Any]) -> bool:
        """Is it true, when this is `known`? One that fails, or is not true or false, is not."""
        try:
            return _compiled(self, text).execute(known) is True
        except Exception:  # a division by zero, a missing key, mixed types: CEL's own errors have no common class
            return False


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


@lru_cache(maxsize=COMPILED)
def _compiled(dialect: Dialect, text: str) -> Any:
    if len(text) > MAX_TEXT:
        raise CelFault(f"A {dialect.noun} has at most {MAX_TEXT} characters; this one has {len(text)}.")
    try:
        program = _compiler().compile(text)
    except ValueError as error:
        raise CelFault(_syntax(str(error))) from None
    _refuse_unbounded(dialect, text, program)
    return program


def _syntax(words: str) -> str:
    place = _PLACE.search(words)
    where = f" at line {place[1]}, column {place[2]}" if place else ""
    return f"This is no CEL expression: there is a fault{where}."


@cache
def _whole(name: str) -> re.Pattern[str]:
    """A map as a whole: not asked for a key. What follows a quote at once is in a text, or no CEL."""
    return re.compile(rf"(?:(\bin)\s+)?(?<!['\"])\b{name}\b(?!\s*[.\[])")


def _refuse_unbounded(dialect: Dialect, text: str, program: Any) -> None:
    if (found := _PASS.search(text)) is not None:
        message = f"A {dialect.noun} goes through no list: '{found[1]}' is not possible{_at(text, found[1])}."
        raise CelFault(message)
    for name in dialect.maps:
        if any(found[1] is None for found in _whole(name).finditer(text)):
            raise CelFault(f"A {dialect.noun} asks the {name} for single keys: {dialect.examples}.")
    for name in program.functions():
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            raise _unknown("function", name, text, FUNCTIONS)
    for name in sorted(set(program.variables()) - dialect.names):
        raise _unknown("name", name, text, dialect.names)


def _unknown(kind: str, name: str, text: str, known: Iterable[str]) -> CelFault:
    return CelFault(f"The {kind} '{name}' is not known{_at(text, name)}. Known: {', '.join(sorted(known))}.")


def _at(text: str, name: str) -> str:
    """Where a word stands in an expression."""
    found = re.search(rf"\b{re.escape(name)}\b", text)
    if found is None:
        return ""
    line = text.count("\n", 0, found.start()) + 1
    return f" at line {line}, column {found.start() - text.rfind(chr(10), 0, found.start())}"
