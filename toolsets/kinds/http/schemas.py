"""JSON Schemas of a document, copied so that they stand alone, are small, and hold only what is checked."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from toolsets.kinds.http.document import Referred
from toolsets.kinds.http.faults import Faulty, Unusable

MAX_DESCRIPTION = 500  # characters
MAX_ENUM = 200
MAX_PATTERN = 500
MAX_REQUIRED = 500
DEPTHS = (10, 6, 4, 2)  # tried in turn until an operation's schema is small enough
NODE = 24  # bytes that a schema costs beside its keywords
TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
ELSEWHERE = "Its parts are left out here: too deep, too large or recursive."


class TooLarge(Exception):
    """The copy needs more than its allowance."""


class Allowance:
    """Bytes that copies may still take, about; it is also what bounds the time that they take."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise TooLarge


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return 0 < len(names) <= len(TYPES) and all(isinstance(name, str) and name in TYPES for name in names)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_REQUIRED and all(isinstance(name, str) for name in value)


def _is_pattern(value: Any) -> bool:
    """One that RE2 knows, which takes linear time; the API's server checks the others."""
    if not (isinstance(value, str) and len(value) <= MAX_PATTERN):
        return False
    return compiled(value) is not None


def compiled(pattern: str) -> Any:
    """None for what RE2 does not know, such as a look-ahead."""
    import re2

    options = re2.Options()
    options.log_errors, options.max_mem = False, 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


# A keyword that is not what it must be is left out: the checker relies on this.
PLAIN: Mapping[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "format": lambda value: isinstance(value, str) and len(value) <= 50,
    "enum": lambda value: isinstance(value, list) and 0 < len(value) <= MAX_ENUM,
    "const": lambda value: True,
    "default": lambda value: True,
    "required": _is_names,
    "pattern": _is_pattern,
    "uniqueItems": lambda value: isinstance(value, bool),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
}
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE = ("items", "additionalProperties", "not")


class Copier:
    """Copies with references in place, to `depth` levels."""

    def __init__(self, document: Referred, depth: int, *allowances: Allowance) -> None:
        self._document = document
        self._depth = depth
        self._allowances = allowances

    def copy(self, schema: Any, level: int = 0, within: tuple[str, ...] = ()) -> Any:
        """Raises Faulty and TooLarge."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Faulty("A schema is neither an object nor true or false.")
        self.spend(NODE)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referred(schema, reference, level, within)
        copied = self._plain(schema)
        if level < self._depth:
            self._add_parts(copied, schema, level, within)
        elif any(name in schema for name in (*LISTS, *SINGLE, "properties")):
            copied["description"] = f"{copied.get('description', '')} {ELSEWHERE}".strip()
        return _as_of_3_1(copied, schema)

    def spend(self, size: int) -> None:
        for allowance in self._allowances:
            allowance.spend(size)

    def _referred(self, schema: dict[str, Any], reference: str, level: int, within: tuple[str, ...]) -> Any:
        target = self._document.at(reference)
        beside = self._plain(schema)
        if reference in within or len(within) > 2 * self._depth:
            return {"description": ELSEWHERE, **beside}
        copied = self.copy(target, level, (*within, reference))
        return {**copied, **beside} if isinstance(copied, dict) else copied

    def _plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        kept = {name: schema[name] for name, is_well in PLAIN.items() if name in schema and is_well(schema[name])}
        if isinstance(schema.get("description"), str):
            kept["description"] = schema["description"][:MAX_DESCRIPTION]
        for name, value in kept.items():
            self.spend(len(name) + 4 + len(orjson.dumps(value)))
        return kept

    def _add_parts(self, copied: dict[str, Any], schema: dict[str, Any], level: int, within: tuple[str, ...]) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            copied["properties"] = {}
            for name, part in properties.items():
                self._add_property(copied, name, part, level, within)
        for name in SINGLE:
            if isinstance(schema.get(name), dict | bool):
                copied[name] = self.copy(schema[name], level + 1, within)
        for name in LISTS:
            if isinstance(schema.get(name), list) and schema[name]:
                copied[name] = [self.copy(part, level + 1, within) for part in schema[name]]
        if "patternProperties" in schema:  # these are not checked, so what they allow must not be refused
            copied.pop("additionalProperties", None)

    def _add_property(self, copied: dict[str, Any], name: str, part: Any, level: int, within: tuple[str, ...]) -> None:
        """What only answers have is none of the arguments."""
        self.spend(len(name) + 4)
        if isinstance(part, dict) and part.get("readOnly") is True:
            copied["required"] = [other for other in copied.get("required", ()) if other != name]
        else:
            copied["properties"][name] = self.copy(part, level + 1, within)


def _as_of_3_1(copied: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 writes null, and bounds that are excluded, in ways of its own."""
    if schema.get("nullable") is True and "type" in copied:
        types = copied["type"] if isinstance(copied["type"], list) else [copied["type"]]
        copied["type"] = [*types, "null"]
        if "enum" in copied and None not in copied["enum"]:
            copied["enum"] = [*copied["enum"], None]
    for bound, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(excluded) is True and bound in copied:
            copied[excluded] = copied.pop(bound)
    return copied


def smallest_fit(document: Referred, build: Callable[[Copier], dict[str, Any]], size: int, total: Allowance) -> bytes:
    """What `build` makes, as JSON of about `size` bytes at most: the deeper it goes, the more is left out.

    Raises Faulty, Unusable, and TooLarge when `total` is spent.
    """
    for depth in DEPTHS:
        try:
            return orjson.dumps(build(Copier(document, depth, Allowance(size), total)))
        except TooLarge:
            if total.left < 0:
                raise
    raise Unusable(f"its arguments have a schema of more than {size // 1000} KB")
