"""Faults that pydantic finds, in the form of the error body's `details`."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import orjson
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from core.errors import InvalidRequest
from core.ids import parse_uuid

M = TypeVar("M", bound=BaseModel)
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_DEPTH = 200  # of what is stored; orjson writes 254 levels
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def pydantic_faults(error: ValidationError, prefix: str = "") -> list[dict[str, Any]]:
    """`{"path", "code", "message"}` of each fault, without the value that was given."""
    return [
        {
            "path": ".".join(filter(None, [prefix, *map(str, fault["loc"])])),
            "code": fault["type"],
            "message": fault["msg"].removeprefix("Value error, "),  # pydantic's, of a validator's ValueError
        }
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


Found = tuple[tuple[str | int, ...], str, str]  # where, code and message of a fault


class CheckedTogether(BaseModel):
    """A model with fields that may be wrong together, which is told with what is wrong with one alone: a validator
    "after" would only be asked once no field is wrong.
    """

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterable[Found]:
        """Of what was given, as it was given: any field may be missing or of another type, which is its own fault."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _together(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _with_faults(handler, data, cls.found_together(data) if isinstance(data, Mapping) else ())


def _with_faults(handler: Callable[[Any], M], data: Any, found: Iterable[Found]) -> M:
    """Raises pydantic's ValidationError with what was `found`, after what the fields' own checks find."""
    faults = [_line(where, code, message) for where, code, message in found]
    try:
        model = handler(data)
    except ValidationError as error:
        own = error.errors(include_url=False, include_context=False, include_input=False)
        faults = [_line(fault["loc"], fault["type"], fault["msg"]) for fault in own] + faults
    if faults:
        raise ValidationError.from_exception_data("config", faults)
    return model


def _line(where: tuple[str | int, ...], code: Any, message: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(code, message), loc=where, input=None)


def invalid(faults: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The error that tells all faults at once, the first one in its message."""
    first = faults[0]
    return InvalidRequest(
        f"{first['path']}: {first['message']}" if first["path"] else first["message"],
        code=first["code"],
        param=first["path"] or None,
        details=[dict(fault) for fault in faults],
    )


def has_large_number(value: Any) -> bool:
    """Is a number in this JSON beyond 64 bits? PostgreSQL answers it as an integer, which orjson cannot write."""
    if isinstance(value, float):
        return abs(value) >= 2**63
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(has_large_number(item) for item in held)


def storable_text(text: str) -> str:
    """Text that PostgreSQL and JSON take: NUL and halves of surrogate pairs are replaced."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT) if "\0" in text else text
    return text.replace("\0", _REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def storable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """`value` as JSON that can be stored and read again.

    What JSON lacks, numbers beyond 64 bits, and what is nested deeper than `depth`, become text.
    """
    match value:
        case None | bool():
            return value
        case str():
            return storable_text(value)
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if abs(value) < 2**63 else str(value)
        case Mapping() if depth:
            return {storable_text(str(key)): storable(item, depth - 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [storable(item, depth - 1) for item in value]
    return storable_text(str(value))


def slug_faults(slug: str, *, reserved: Collection[str] = ()) -> list[dict[str, Any]]:
    """`reserved` are words that mean something else where the slug is used; what reads as an id is reserved too."""
    if not SLUG.fullmatch(slug):
        message = "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit."
        return [{"path": "slug", "code": "invalid", "message": message}]
    if slug in reserved or parse_uuid(slug):
        return [{"path": "slug", "code": "reserved", "message": f"'{slug}' has a meaning of its own: choose another."}]
    return []


def parse(model: type[M], data: Any, *, prefix: str = "") -> M:
    """`data` as `model`. Raises InvalidRequest with every fault at once; `prefix` is where `data` was found."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(pydantic_faults(error, prefix)) from None


def config_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema from which forms are made."""
    return {"$schema": JSON_SCHEMA, **model.model_json_schema()}


def parse_config(model: type[M], config: Mapping[str, Any]) -> M:
    """A stored or given config, by JSON's own types ("5" is no integer). Raises pydantic's ValidationError."""
    return model.model_validate_json(orjson.dumps(config), strict=True)


def config_faults(model: type[BaseModel], config: Mapping[str, Any], path: str = "config") -> list[dict[str, Any]]:
    """Every fault of a config, for example at `config.max_steps`."""
    try:
        parse_config(model, config)
    except ValidationError as error:
        return pydantic_faults(error, path)
    except TypeError:
        return [{"path": path, "code": "invalid_json", "message": "The config cannot be written as JSON."}]
    return []
