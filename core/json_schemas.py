"""JSON Schemas that a tenant or a model wrote, and a model's answers held to them, at a bounded cost."""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import orjson

MAX_SCHEMA = 20_000  # characters
MAX_FAULTS = 5
# References multiply the work without a bound, or lead out of the schema; the others match by Python's own expressions,
# which may never end.
_REFUSED = frozenset({"$ref", "$dynamicRef", "patternProperties", "unevaluatedItems", "unevaluatedProperties"})


class SchemaFault(ValueError):
    """Why a schema is not taken."""


class Schema:
    """Making one, and reading by it, may take half a second: both belong into a thread.

    Raises SchemaFault for what is no schema of an object, or not one that is taken.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        from jsonschema.exceptions import SchemaError

        try:
            self.text = orjson.dumps(schema).decode()
        except orjson.JSONEncodeError:
            raise SchemaFault("The schema has a number of more than 64 bits.") from None
        if len(self.text) > MAX_SCHEMA:
            raise SchemaFault(f"The schema has {len(self.text)} characters; at most {MAX_SCHEMA} are taken.")
        if schema.get("type") != "object":
            raise SchemaFault('The schema must have "type": "object".')
        refused = sorted(_REFUSED.intersection(_names(schema)))
        if refused:
            raise SchemaFault(f"The schema must do without {', '.join(refused)}.")
        try:
            _validator().check_schema(schema)
        except SchemaError as error:
            raise SchemaFault(f"The schema is wrong at {error.json_path}: {error.message[:300]}") from None
        self._checked = _validator()(schema)

    def read(self, answer: str) -> tuple[dict[str, Any] | None, str]:
        """The object that a model's answer holds, or None and what is wrong with it.

        Raises SchemaFault for a pattern that is not taken.
        """
        try:
            found = orjson.loads(_unfenced(answer))
        except orjson.JSONDecodeError as error:
            return None, f"It is no JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        errors = islice(self._checked.iter_errors(found), MAX_FAULTS)
        faults = [f"{error.json_path}: {error.message[:200]}" for error in errors]
        return (None, f"{'; '.join(faults)}.") if faults else (found, "")


def _names(value: Any) -> Iterator[str]:
    """Of every object in it."""
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(item)


def _unfenced(answer: str) -> str:
    """Without the fence of Markdown that models like to put around JSON."""
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3]
    return text


@cache
def _validator() -> Any:
    """Of draft 2020-12, in linear time: patterns are RE2's. Imported at the first use."""
    import re2
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    options = re2.Options()
    options.log_errors = False

    def pattern(validator: Any, wanted: str, found: Any, schema: Any) -> Iterator[ValidationError]:
        try:
            if isinstance(found, str) and not re2.search(wanted, found, options):
                yield ValidationError(f"{found[:100]!r} does not match {wanted!r}")
        except re2.error:
            raise SchemaFault(f"The pattern {wanted[:100]!r} is not RE2: it knows no look-around and no \\1.") from None

    def unique(validator: Any, wanted: bool, found: Any, schema: Any) -> Iterator[ValidationError]:
        if wanted and isinstance(found, list):
            kinds = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in found}
            if len(kinds) < len(found):
                yield ValidationError("an item is there twice")

    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})
