"""A meter that writes down what it is told, and proves that every call it opened was closed once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from core.errors import RateLimited
from core.ids import uuid7
from llm.calls import CallContext, CallOutcome, MeteredCall, calling
from llm.targets import ModelTarget
from llm.wire import Accumulator, ChatRequest, Delta


class NoBudget(RateLimited):
    code = "budget_exceeded"


@dataclass
class RecordedCall:
    meter: "RecordingMeter"
    target: ModelTarget
    request: ChatRequest
    outcomes: list[CallOutcome] = field(default_factory=list)
    heard: Accumulator = field(default_factory=Accumulator)
    pieces: int = 0
    extended: int = 0

    @property
    def most_tokens(self) -> int | None:
        return self.meter.most_tokens

    def said(self, delta: Delta) -> bool:
        assert not self.outcomes, "something was said after the call was closed"
        self.heard.add(delta)
        self.pieces += 1
        return self.meter.pieces is not None and self.pieces >= self.meter.pieces * (self.extended + 1)

    async def extend(self) -> None:
        await asyncio.sleep(0)
        if self.extended >= self.meter.extensions:
            raise NoBudget("The budget is used up.")
        self.extended += 1

    def close(self, outcome: CallOutcome) -> None:
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> CallOutcome:
        (outcome,) = self.outcomes
        return outcome

    @property
    def name(self) -> str:
        return self.target.name


@dataclass
class RecordingMeter:
    """`pieces` are reserved at once (None: no end), `extensions` are granted, `calls_left` may be opened."""

    pieces: int | None = None
    extensions: int = 0
    calls_left: int | None = None
    most_tokens: int | None = None
    open_seconds: float = 0
    calls: list[RecordedCall] = field(default_factory=list)

    def at_once(self, target: ModelTarget, request: ChatRequest) -> None:
        return None

    async def open(self, target: ModelTarget, request: ChatRequest) -> MeteredCall:
        if self.calls_left is not None:
            if not self.calls_left:
                raise NoBudget("The budget is used up.")
            self.calls_left -= 1
        call = RecordedCall(self, target, request)
        self.calls.append(call)
        await asyncio.sleep(self.open_seconds)
        return call

    def check(self) -> None:
        for call in self.calls:
            assert len(call.outcomes) == 1, f"{call.name} was closed {len(call.outcomes)} times"


@contextmanager
def metered(*, tenant_id: UUID | None = None, meter: RecordingMeter | None = None, **fields: Any) -> Iterator[Any]:
    """A context whose meter is given; at its end every call is closed."""
    meter = meter or RecordingMeter()
    with calling(CallContext(tenant_id=tenant_id or uuid7(), meter=meter, **fields)):
        yield meter
