"""What is wrong with a config, all of it at once."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

MAX_FAULTS = 50


class Fault(NamedTuple):
    path: tuple[str | int, ...]
    code: str
    message: str


class Faulty(ValueError):
    """The document breaks a rule; the message is for people."""


class Unusable(ValueError):
    """The document is well, and this operation cannot be a tool; the message says why."""


def validation_error(title: str, faults: Sequence[Fault]) -> ValidationError:
    """Raised in a validator, pydantic takes its faults over one by one."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError(code, "{message}", {"message": message}), "loc": path, "input": None}
        for path, code, message in faults[:MAX_FAULTS]
    ]
    return ValidationError.from_exception_data(title, details)
