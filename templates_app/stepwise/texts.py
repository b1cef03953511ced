"""Texts with references, such as `{{ input }}` and `{{ steps.draft.output }}`: they are put in, and nothing is run."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import InvalidRequest

STEP_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
MAX_RENDERED = 1_000_000  # characters of one prompt
KNOWN = "{{ input }}, {{ metadata.<key> }}, {{ steps.<name>.output }} and {{ steps.<name>.status }}"
_MARK = re.compile(r"\{\{(.*?)\}\}", re.S)
_REFERENCE = re.compile(
    rf"""input|metadata\.(?P<key>[\w-]{{1,64}})|steps\.(?P<step>{STEP_NAME})\.(?P<field>output|status)|"\{{\{{" """,
    re.X,
)
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Values:
    """What texts and conditions may name. `results` are those of the steps that have ended, by name."""

    input: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)


def text_faults(text: str, steps: Collection[str]) -> Iterator[str]:
    """What is wrong with the references of a text that may name these steps."""
    for mark in _MARK.finditer(text):
        said = mark[1].strip()
        found = _REFERENCE.fullmatch(said)
        if found is None:
            yield f"'{said[:80]}' is not known. Known: {KNOWN}."
        elif found["step"] and found["step"] not in steps:
            yield f"No step '{found['step']}' comes before this. Known: {', '.join(steps) or 'none'}."
    if "{{" in _MARK.sub("", text):
        yield "A {{ has no }}."


def names_input(text: str) -> bool:
    return any(mark[1].strip() == "input" for mark in _MARK.finditer(text))


def rendered(text: str, values: Values) -> str:
    """The text with all references put in; what they bring in is not looked at again. Raises InvalidRequest."""
    size, pieces = 0, []
    for place, piece in enumerate(_MARK.split(text)):
        pieces.append(_value(piece, values) if place % 2 else piece)
        size += len(pieces[-1])
        if size > MAX_RENDERED:
            message = f"The prompt of a step would have more than {MAX_RENDERED} characters: name less in it."
            raise InvalidRequest(message, code="prompt_too_long")
    return "".join(pieces)


def _value(reference: str, values: Values) -> str:
    found = _REFERENCE.fullmatch(reference.strip())
    if found is None:
        raise ValueError(f"The reference {reference!r} was not validated.")
    if found["key"]:
        return values.metadata.get(found["key"], "")
    if found["step"]:
        return str(values.results[found["step"]][found["field"]])
    return values.input if found[0] == "input" else "{{"
