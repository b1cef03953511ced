"""The operations of a document that can be tools."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from toolsets.kinds.http.document import Document
from toolsets.kinds.http.faults import Fault, Faulty, Unusable
from toolsets.kinds.http.schemas import Allowance, Copier, TooLarge, smallest_fit

METHODS = ("get", "head", "post", "put", "patch", "delete")
SAFE = frozenset({"GET", "HEAD"})
MAX_OPERATIONS = 100
MAX_PARAMETERS = 100
MAX_SCHEMA = 32_000  # bytes of one operation's arguments
MAX_SCHEMAS = 1_000_000  # of all of them, with those attempts that were too large
MAX_DESCRIPTION = 1000
MAX_PATH = 1000
STYLES = {
    "path": ("simple",),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
}
# Headers that say who asks, where the message ends, or who sent it: not for a model to set.
RESERVED = re.compile(
    r"authorization|cookie2?|host|accept|accept-encoding|content-.*|transfer-encoding|connection|keep-alive|expect|te|"
    r"trailer|upgrade|via|forwarded|x-forwarded-.*|x-real-ip|proxy-.*|sec-.*|origin|referer|date",
    re.IGNORECASE,
)
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_JSON = re.compile(r"application/(?:json|[a-z0-9.+-]+\+json)(?:\s*;.*)?", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is its name for the model, `name` for the server. The style json is a value written as JSON."""

    argument: str
    name: str
    where: str
    style: str
    explode: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """`schema` is the JSON Schema of the arguments, as JSON; `body` is the argument that is the body, if there is one.

    `body_type` is its content type.
    """

    name: str
    description: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: str
    body_type: str
    schema: bytes


class Found(NamedTuple):
    key: str  # the operationId, or a name made of method and path
    named: bool
    method: str
    path: str
    item: dict[str, Any]
    raw: dict[str, Any]


def read_operations(document: Document, chosen: Sequence[str]) -> tuple[list[Operation], list[Fault]]:
    """The chosen ones, or all that can be tools. One that was chosen and cannot be a tool is a fault."""
    found, faults = _all_found(document)
    faults += _duplicates(found) + _unknown(found, chosen)
    offered = [each for each in found if not chosen or each.key in chosen]
    if len(offered) > MAX_OPERATIONS:
        message = f"The document has {len(offered)} operations; name at most {MAX_OPERATIONS} of them here."
        return [], [*faults, Fault(("operations",), "too_many_operations", message)]
    operations: list[Operation] = []
    total = Allowance(MAX_SCHEMAS)
    for each in offered:
        try:
            operations.append(_operation(document, each, {other.name for other in operations}, total))
        except Faulty as error:
            faults.append(Fault(("document",), "invalid_document", f"{_title(each)}: {error}"))
        except Unusable as error:
            if chosen:
                message = f"'{each.key[:100]}' cannot be a tool: {error}."
                faults.append(Fault(("operations", chosen.index(each.key)), "unusable_operation", message))
        except TooLarge:
            message = "The schemas of all arguments together are too large: name fewer operations."
            return [], [*faults, Fault(("operations",), "too_large", message)]
    if not operations and not faults:
        faults.append(Fault(("document",), "no_operation", "The document has no operation that can be a tool."))
    return operations, faults


def tool_name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", text).strip("_")[:64]


def _title(found: Found) -> str:
    return f"{found.method} {found.path[:100]}"


def _all_found(document: Document) -> tuple[list[Found], list[Fault]]:
    found: list[Found] = []
    faults: list[Fault] = []
    for path, item in document.root["paths"].items():
        try:
            found += _found(path, document.followed(item)) if path.startswith("/") else ()
        except Faulty as error:
            faults.append(Fault(("document",), "invalid_document", f"{path[:100]}: {error}"))
    return found, faults


def _found(path: str, item: dict[str, Any]) -> Iterator[Found]:
    for method in METHODS:
        raw = item.get(method)
        if isinstance(raw, dict):
            id = raw.get("operationId")
            named = id if isinstance(id, str) and tool_name(id) else ""
            key = named or tool_name(f"{method}{path}")
            yield Found(key, bool(named), method.upper(), path, item, raw)


def _duplicates(found: list[Found]) -> list[Fault]:
    counts = Counter(each.key for each in found if each.named)
    message = "The operationId '{}' stands in the document {} times."
    return [
        Fault(("document",), "duplicate_operation", message.format(key[:100], count))
        for key, count in counts.items()
        if count > 1
    ]


def _unknown(found: list[Found], chosen: Sequence[str]) -> list[Fault]:
    known = {each.key for each in found}
    return [
        Fault(("operations", index), "unknown_operation", f"The document has no operation '{key[:100]}'.")
        for index, key in enumerate(chosen)
        if key not in known
    ]


def _operation(document: Document, found: Found, taken: set[str], total: Allowance) -> Operation:
    """Raises Faulty, Unusable and TooLarge."""
    if len(found.path) > MAX_PATH:
        raise Unusable(f"its path is longer than {MAX_PATH} characters")
    if "#" in found.path:
        raise Unusable("its path holds a fragment")
    raws = _parameters(document, found)
    parameters = _named(raws)
    missing = set(_PLACEHOLDER.findall(found.path)) - {each.name for each in parameters if each.where == "path"}
    if missing:
        raise Unusable(f"its path has {{{min(missing)[:100]}}}, which no parameter describes")
    body_type, body_schema, body_required = _body(document, found.raw)
    body = _free("body", {each.argument for each in parameters}) if body_type else ""

    def schema(copier: Copier) -> dict[str, Any]:
        properties = {each.argument: _described(copier, raw) for each, raw in zip(parameters, raws, strict=True)}
        required = [
            each.argument
            for each, raw in zip(parameters, raws, strict=True)
            if raw.get("required") is True or each.where == "path"
        ]
        if body:
            properties[body] = copier.copy(body_schema)
            required += [body] if body_required else []
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    name, description = _free(tool_name(found.key), taken), _description(found)
    made = smallest_fit(document, schema, MAX_SCHEMA, total)
    return Operation(name, description, found.method, found.path, tuple(parameters), body, body_type, made)


def _description(found: Found) -> str:
    parts = [found.raw.get("summary"), found.raw.get("description")]
    text = "\n".join(dict.fromkeys(part.strip() for part in parts if isinstance(part, str) and part.strip()))
    deprecated = "Deprecated. " if found.raw.get("deprecated") is True else ""
    return (deprecated + (text or _title(found)))[:MAX_DESCRIPTION]


def _parameters(document: Document, found: Found) -> list[dict[str, Any]]:
    """Those of the path and of the operation, which go before; without those that a model must not set."""
    by_key: dict[tuple[str, str], dict[str, Any]] = {}
    for holder in (found.item, found.raw):
        listed = holder.get("parameters", [])
        if not isinstance(listed, list) or len(listed) > MAX_PARAMETERS:
            raise Faulty(f"`parameters` is no list of at most {MAX_PARAMETERS}.")
        for each in listed:
            raw = document.followed(each)
            name, where = raw.get("name"), raw.get("in")
            if not (isinstance(name, str) and 0 < len(name) <= 200 and isinstance(where, str)):
                raise Faulty("A parameter has no `name` of 1 to 200 characters, or no `in`.")
            by_key[name.lower() if where == "header" else name, where] = raw
    return [raw for raw in by_key.values() if _is_settable(raw)]


def _is_settable(raw: dict[str, Any]) -> bool:
    """Raises Unusable for one without which the operation does not work."""
    where, name = raw["in"], raw["name"]
    if where in ("path", "query") or (where == "header" and HEADER.fullmatch(name) and not RESERVED.fullmatch(name)):
        return True
    if where == "cookie" and raw.get("required") is True:
        raise Unusable(f"it needs the cookie '{name[:100]}'")
    return False


def _named(raws: list[dict[str, Any]]) -> list[Parameter]:
    """Their arguments have names that models take, each its own."""
    parameters: list[Parameter] = []
    for raw in raws:
        name, where = raw["name"], raw["in"]
        style = raw.get("style", STYLES[where][0])
        if style not in STYLES[where]:
            raise Unusable(f"its parameter '{name[:100]}' has the style '{str(style)[:30]}'")
        taken = {each.argument for each in parameters}
        argument = _free(tool_name(name) or where, taken)
        explode = raw.get("explode", style in ("form", "deepObject")) is True
        style = "json" if _json_content(raw)[0] else style
        parameters.append(Parameter(argument, name, where, style, explode))
    return parameters


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first one with a number that is not taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name[:60]}_{number}"
    return candidate


def _json_content(raw: dict[str, Any]) -> tuple[str, Any]:
    """The content type and schema of what is sent as JSON; two empty values if nothing is."""
    content = raw.get("content")
    for kind, media in content.items() if isinstance(content, dict) else ():
        if _JSON.fullmatch(kind[:200]):
            return kind, media.get("schema", {}) if isinstance(media, dict) else {}
    return "", None


def _described(copier: Copier, raw: dict[str, Any]) -> Any:
    kind, schema = _json_content(raw)
    copied = copier.copy(schema if kind else raw.get("schema", {}))
    text = raw.get("description")
    if isinstance(text, str) and isinstance(copied, dict):
        copier.spend(len(text[:MAX_DESCRIPTION].encode()))
        copied = {**copied, "description": text[:MAX_DESCRIPTION]}
    return copied


def _body(document: Document, raw: dict[str, Any]) -> tuple[str, Any, bool]:
    """Content type, schema, and whether it must be there. Raises Unusable where one is needed that is no JSON."""
    if "requestBody" not in raw:
        return "", None, False
    body = document.followed(raw["requestBody"])
    kind, schema = _json_content(body)
    required = body.get("required") is True
    if required and not kind:
        raise Unusable("its body is no JSON")
    return kind, schema, required
