"""What the tests of the gateway share: plans of several targets, and how a call is made and checked."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from core import http
from llm.calls import CallContext
from llm.gateway import gateway
from llm.providers.base import Limits, ProviderConnection
from llm.targets import Leg, ModelTarget, Plan, Target
from llm.wire import Accumulator, ChatRequest, Completion, Delta

HELLO = "Grüße aus dem Norden 🌊"


@dataclass(frozen=True)
class Planned:
    """A target that plans what the test says."""

    targets: Sequence[ModelTarget]
    continues: bool = False
    name: str = "route/test"
    model: str = "test"

    def models(self) -> Sequence[ModelTarget]:
        return self.targets

    def plan(self, request: ChatRequest, context: CallContext) -> Plan:
        return Plan([Leg(target, "first of the plan") for target in self.targets], "test", self.continues)


def at(
    url: str, model: str, slug: str = "mock", *, tenant_id: UUID | None = None, key_id: str = "", **limits: int
) -> ModelTarget:
    known = Limits(**limits)
    connection = ProviderConnection(
        slug, "openai", url, "sk-test-key", tenant_id=tenant_id, key_id=key_id, limits=known
    )
    return ModelTarget(connection, model)


def hello(target: Target, text: str = "Hi", **params: Any) -> ChatRequest:
    return ChatRequest(target.model, [{"role": "user", "content": text}], params)


@dataclass
class Told:
    """What a caller got."""

    deltas: list[Delta] = field(default_factory=list)

    @property
    def completion(self) -> Completion:
        whole = Accumulator()
        for delta in self.deltas:
            whole.add(delta)
        return whole.completion()

    @property
    def text(self) -> str:
        return self.completion.text


async def listen(target: Target, request: ChatRequest | None = None, told: Told | None = None) -> Told:
    told = told or Told()
    async with aclosing(gateway.stream(request or hello(target), target)) as deltas:
        async for delta in deltas:
            told.deltas.append(delta)
    return told


async def ask(target: Target, request: ChatRequest | None = None, *, stream: bool, told: Told) -> str:
    """The answer's text; what a stream gave before it failed is in `told`."""
    if stream:
        return (await listen(target, request, told)).text
    return (await gateway.complete(request or hello(target), target)).text


async def nothing_left() -> None:
    """No task of the call and no connection in use; the connections that are kept are closed, as the loop ends."""
    for _ in range(20):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        await asyncio.sleep(0.01)
    assert not others, others
    connector = (await http.session()).connector
    assert connector is not None
    assert not connector._acquired
    await http.close_session()


async def until(reached: Any, seconds: float = 2) -> None:
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110 it happens in the upstream's thread
            await asyncio.sleep(0.005)
