"""A pydantic model whose schema is an operation's, checked by `jsonschema` within bounds."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Protocol

import orjson
from pydantic import ConfigDict, RootModel, model_validator

from toolsets.kinds.http.faults import Fault, validation_error
from toolsets.kinds.http.schemas import LISTS, PLAIN, SINGLE, compiled

MAX_TOLD = 8  # faults of one call
MAX_MESSAGE = 300
MAX_CHECKS = 100_000  # about half a second; each is one keyword for one value, or for 1000 characters of it
_OWN = frozenset({"pattern", "uniqueItems"})
_EASED: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}

_allowed: ContextVar["_Allowed"] = ContextVar("allowed")


class TooMuch(Exception):
    """The arguments need more checks than MAX_CHECKS."""


class Described(Protocol):
    """`schema` is JSON, made by a Copier."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> bytes: ...


class OperationArguments(RootModel[dict[str, Any]]):
    """Its classes are made by the hundred, and pydantic's part of each only once it is called."""

    model_config = ConfigDict(defer_build=True)
    operation: ClassVar[Described]

    @model_validator(mode="after")
    def _fit(self) -> "OperationArguments":
        schema = orjson.loads(self.operation.schema)
        for name, value in self.root.items():
            self.root[name] = _eased(schema["properties"].get(name), value)
        faults = _faults(schema, self.root)
        if faults:
            raise validation_error(self.operation.name, faults)
        return self

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        schema: dict[str, Any] = orjson.loads(cls.operation.schema)
        return schema


def arguments_of(operation: Described) -> type[OperationArguments]:
    return type("Arguments", (OperationArguments,), {"operation": operation, "__module__": __name__})


def _eased(schema: Any, value: Any) -> Any:
    """Models write "5" for 5, and objects as text, now and then."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    wanted = _EASED.get(kind) if isinstance(kind, str) else None
    if wanted is None or not isinstance(value, str):
        return value
    try:
        read = orjson.loads(value)
    except ValueError:
        return value
    is_wanted = isinstance(read, wanted) and not (isinstance(read, bool) and bool not in wanted)
    return read if is_wanted else value


class _Allowed:
    """How many checks are left. The size of a value counts, since the library writes it into each error."""

    def __init__(self, value: Any) -> None:
        self._left = MAX_CHECKS
        self._sizes: dict[int, int] = {}  # of objects and lists, by identity: they outlive this
        self._measure(value)

    def spend(self, value: Any) -> None:
        """Raises TooMuch."""
        self._left -= 1 + (len(value) if isinstance(value, str) else self._sizes.get(id(value), 0)) // 1000
        if self._left < 0:
            raise TooMuch

    def _measure(self, value: Any) -> int:
        """Characters, about."""
        if isinstance(value, str):
            return len(value) + 4
        if not isinstance(value, dict | list):
            return 8
        parts = value if isinstance(value, list) else [*value, *value.values()]
        self._sizes[id(value)] = size = 4 + sum(map(self._measure, parts))
        return size


def _faults(schema: dict[str, Any], value: Any) -> list[Fault]:
    _allowed.set(_Allowed(value))
    try:
        errors = list(islice(_checker()(schema).iter_errors(value), MAX_TOLD))
    except TooMuch:
        return [Fault((), "too_large", "The arguments are too large to be checked: send less at once.")]
    return [Fault(tuple(error.absolute_path), "invalid", error.message[:MAX_MESSAGE]) for error in errors]


@cache
def _checker() -> Any:
    """Knows the keywords that a copied schema may have, and no references."""
    from jsonschema import Draft202012Validator, validators

    names = {*PLAIN, *LISTS, *SINGLE, "properties"} - _OWN
    checks = {name: check for name, check in Draft202012Validator.VALIDATORS.items() if name in names}
    checks.update(pattern=_pattern, uniqueItems=_unique)
    counted = {name: _counted(check) for name, check in checks.items()}
    return validators.create(meta_schema={}, validators=counted, type_checker=Draft202012Validator.TYPE_CHECKER)


Check = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _counted(check: Check) -> Check:
    def counted(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
        _allowed.get().spend(instance)
        return check(validator, wanted, instance, schema)

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """In linear time, other than the library's."""
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        written = {repr(item) for item in instance}
        if len(written) < len(instance):
            yield ValidationError("The items are not all different")
