"""A minimal document for a JSON Schema: the required properties, each with the shortest value that its schema takes."""

from typing import Any

MAX_DEPTH = 32
MAX_SIZE = 10_000

FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "P0D",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_IMPLIED = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems"),
    "string": ("minLength", "maxLength", "format", "pattern"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


class Unsatisfiable(ValueError):
    """No value is known for the schema."""


class _Limits:
    """The schema that `#` means, and the work that one document may cost: references multiply."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._left = MAX_SIZE

    def spend(self, depth: int, size: int = 1) -> None:
        self._left -= size
        if depth > MAX_DEPTH or self._left < 0:
            raise Unsatisfiable("its document would be too large or without an end")


def sample(schema: Any) -> Any:
    """Raises Unsatisfiable for a schema that is malformed, contradicts itself, or is too clever."""
    try:
        return _value(schema, _Limits(schema), 0)
    except (TypeError, AttributeError, KeyError, IndexError):
        raise Unsatisfiable("it is no valid JSON Schema") from None


def _value(schema: Any, limits: _Limits, depth: int) -> Any:
    limits.spend(depth)
    if schema is True:
        return None
    if schema is False:
        raise Unsatisfiable("it allows nothing")
    schema = _flat(schema, limits, depth)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _first_possible(schema, name, limits, depth)
    return _typed(schema, limits, depth)


def _flat(schema: dict[str, Any], limits: _Limits, depth: int) -> dict[str, Any]:
    """`$ref` and `allOf` merged into the schema that holds them."""
    limits.spend(depth)
    parts = []
    if "$ref" in schema:
        parts.append(_referred(schema["$ref"], limits.root))
    parts += schema.get("allOf", ())
    merged = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
    for part in parts:
        merged = _merge(merged, _flat(part, limits, depth + 1))
    return merged


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = {**other, **one}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**other["properties"], **one["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _referred(reference: str, root: Any) -> Any:
    head, *path = reference.split("/")
    if head != "#":
        raise Unsatisfiable("it refers to another document")
    place = root
    for name in path:
        place = place[name.replace("~1", "/").replace("~0", "~")]
    return place


def _first_possible(schema: dict[str, Any], name: str, limits: _Limits, depth: int) -> Any:
    base = {key: value for key, value in schema.items() if key != name}
    for alternative in schema[name]:
        try:
            return _value(_merge(_flat(alternative, limits, depth), base), limits, depth + 1)
        except Unsatisfiable:
            continue
    raise Unsatisfiable(f"none of its {name} is possible")


def _typed(schema: dict[str, Any], limits: _Limits, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind is None:
        kind = next((kind for kind, names in _IMPLIED.items() if any(name in schema for name in names)), "null")
    match kind:
        case "object":
            return _object(schema, limits, depth)
        case "array":
            return _array(schema, limits, depth)
        case "string":
            return _string(schema, limits, depth)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
    raise Unsatisfiable(f"the type {kind!r} is unknown")


def _object(schema: dict[str, Any], limits: _Limits, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    names = list(dict.fromkeys(schema.get("required", ())))
    names += [name for name in properties if name not in names][: max(0, schema.get("minProperties", 0) - len(names))]
    other = schema.get("additionalProperties", True)
    return {name: _value(properties.get(name, other), limits, depth + 1) for name in names}


def _array(schema: dict[str, Any], limits: _Limits, depth: int) -> list[Any]:
    least = schema.get("minItems", 0)
    if least > 1 and schema.get("uniqueItems"):
        raise Unsatisfiable("its array asks for several different items")
    limits.spend(depth, least)
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return [_value(first[place] if place < len(first) else rest, limits, depth + 1) for place in range(least)]


def _string(schema: dict[str, Any], limits: _Limits, depth: int) -> str:
    if "pattern" in schema:
        raise Unsatisfiable("a string must match a pattern")
    least = schema.get("minLength", 0)
    limits.spend(depth, least)
    text: str = FORMATS.get(schema.get("format", ""), "")
    return text.ljust(least, "x")


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    """Zero if that is allowed, else the allowed number next to the lower bound, else next to the upper one."""
    step = schema.get("multipleOf") or (1 if whole else 0)
    low, high = schema.get("minimum"), schema.get("maximum")
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    for value in _candidates(step, low, over, high, under):
        above = (low is None or value >= low) and (over is None or value > over)
        below = (high is None or value <= high) and (under is None or value < under)
        if above and below:
            return int(value) if whole else value
    raise Unsatisfiable("no number is within its bounds")


def _candidates(step: Any, *bounds: Any) -> list[Any]:
    values = [0]
    for bound in (bound for bound in bounds if bound is not None):
        if step:
            around = bound // step * step
            values += [around, around + step, around - step]
        else:
            values += [bound, bound + 1, bound - 1]
    if not step and None not in (bounds[1], bounds[3]):
        values.append((bounds[1] + bounds[3]) / 2)
    return values
