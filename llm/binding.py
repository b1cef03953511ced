"""Which model a run uses and where its tokens go, found by the code that runs and never held by what is compiled.

A compiled graph is shared between runs of all tenants: it asks here, at the moment of the call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from llm.targets import Target
from llm.wire import ChatRequest, Delta

Sink = Callable[[Delta], Awaitable[None]]
OpenReply = Callable[[ChatRequest], Sink]


@dataclass(frozen=True, slots=True)
class ModelBinding:
    """`params` are the run's defaults (temperature, …); what the caller of the model says goes before them.

    `open_reply` gives each request to the model a sink of its own, so that calls made at once do not mix.
    `loop` is where the sink lives: a graph's synchronous nodes run in threads and come back to it.
    """

    target: Target
    open_reply: OpenReply | None = None
    params: dict[str, Any] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop | None = None


_binding: ContextVar[ModelBinding | None] = ContextVar("model_binding", default=None)


def current_binding() -> ModelBinding | None:
    return _binding.get()


@contextmanager
def telling(sink: Sink | None) -> Iterator[None]:
    """While an answer is told: a sink with a method `give_up` hears when nothing more comes, also where it failed."""
    try:
        yield
    finally:
        if give_up := getattr(sink, "give_up", None):
            give_up()


@contextmanager
def use_binding(
    target: Target, *, open_reply: OpenReply | None = None, params: dict[str, Any] | None = None
) -> Iterator[None]:
    """Around the run of a graph. Nested runs (an agent called by an agent) bind again."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    token = _binding.set(ModelBinding(target, open_reply, params or {}, loop))
    try:
        yield
    finally:
        _binding.reset(token)
