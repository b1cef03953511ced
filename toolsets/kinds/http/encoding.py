"""Arguments as OpenAPI writes them into a URL, headers and a body. Raises ToolError for what cannot be written."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from toolsets.exceptions import ToolError
from toolsets.kinds.http.operations import Operation, Parameter

MAX_BODY = 1_000_000  # bytes
_DELIMITERS = {"form": ",", "simple": ",", "spaceDelimited": " ", "pipeDelimited": "|"}
Pairs = list[tuple[str, str]]


def url_of(server: str, operation: Operation, arguments: Mapping[str, Any], more: Pairs) -> str:
    """`more` are pairs of the query beside the operation's own, of which none may have the same name."""
    taken = {name for name, _ in more}
    pairs = [
        pair
        for parameter in operation.parameters
        if parameter.where == "query" and arguments.get(parameter.argument) is not None
        for pair in _query_pairs(parameter, arguments[parameter.argument])
        if pair[0] not in taken
    ]
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in [*pairs, *more])
    path = _path(operation, arguments)  # some documents write a fixed query into it
    return f"{server}{path}" + (f"{'&' if '?' in path else '?'}{query}" if query else "")


def headers_of(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, str]:
    return {
        parameter.name: header_value(parameter.argument, _joined(parameter, arguments[parameter.argument]))
        for parameter in operation.parameters
        if parameter.where == "header" and arguments.get(parameter.argument) is not None
    }


def header_value(name: str, value: str) -> str:
    """Printable ASCII, so that it can neither end the header nor be read in two ways."""
    if not (value.isascii() and (value.isprintable() or not value)):
        raise ToolError(f"{name}: a header takes printable ASCII characters only, no line ends.")
    return value.strip()


def body_of(operation: Operation, arguments: Mapping[str, Any]) -> bytes | None:
    if not operation.body or operation.body not in arguments:
        return None
    body = _json(arguments[operation.body]).encode()
    if len(body) > MAX_BODY:
        raise ToolError(f"{operation.body}: it has more than {MAX_BODY:,} bytes, which is the most that is sent.")
    return body


def _path(operation: Operation, arguments: Mapping[str, Any]) -> str:
    of_path = {each.name: each for each in operation.parameters if each.where == "path"}

    def value(match: re.Match[str]) -> str:
        parameter = of_path[match[1]]
        text = _joined(parameter, arguments[parameter.argument], quote_items=True)
        if not text:
            raise ToolError(f"{parameter.argument}: it is part of the path and must not be empty.")
        return text

    path = re.sub(r"\{([^{}]*)\}", value, operation.path)
    if any(segment in (".", "..") for segment in re.split(r"[/?#]", path)):
        raise ToolError("A part of the path must not be '.' or '..'.")
    return path


def _query_pairs(parameter: Parameter, value: Any) -> Pairs:
    match parameter.style, value:
        case "deepObject", dict():
            return [(f"{parameter.name}[{key}]", _text(item)) for key, item in value.items()]
        case style, dict() if parameter.explode and style != "json":
            return [(key, _text(item)) for key, item in value.items()]
        case style, list() if parameter.explode and style != "json":
            return [(parameter.name, _text(item)) for item in value]
    return [(parameter.name, _joined(parameter, value))]


def _joined(parameter: Parameter, value: Any, *, quote_items: bool = False) -> str:
    """A value in one text. What holds the delimiter itself is refused: no server could tell the two apart."""
    if parameter.style == "json":
        return _quoted(_json(value)) if quote_items else _json(value)
    delimiter = _DELIMITERS.get(parameter.style, ",")
    if isinstance(value, dict) and parameter.explode:
        items = [f"{key}={_text(item)}" for key, item in value.items()]
    elif isinstance(value, dict):
        items = [text for key, item in value.items() for text in (key, _text(item))]
    else:
        items = [_text(item) for item in value] if isinstance(value, list) else [_text(value)]
    if isinstance(value, dict | list) and any(delimiter in item for item in items):
        raise ToolError(
            f"{parameter.argument}: the parts of it must not hold '{delimiter}', which stands between them."
        )
    return delimiter.join(_quoted(item) if quote_items else item for item in items)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        written.encode()
    except (ValueError, RecursionError):
        raise ToolError(
            "The arguments hold what JSON cannot: a number beyond all bounds, or half a character."
        ) from None
    return written


def _quoted(text: str) -> str:
    """All but letters, digits and -._~ as percent signs with the bytes of UTF-8."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ToolError("The arguments hold half a character.") from None
