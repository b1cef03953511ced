"""The step that is under way, so that what models say in it is told as its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_step: ContextVar[str] = ContextVar("step", default="")


def current_step() -> str:
    """Its name; empty where what is said is for the caller: outside of steps, and in the one that gives the answer."""
    return _step.get()


@contextmanager
def in_step(name: str) -> Iterator[None]:
    token = _step.set(name)
    try:
        yield
    finally:
        _step.reset(token)
