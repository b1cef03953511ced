"""Many calls at once to providers that fail in every way, given up at any moment: nothing of any is left behind."""

import asyncio
import random
from collections import Counter

import pytest

from core.errors import ApplicationError
from llm.calls import Priority
from llm.door import health, joining
from llm.door.circuits import breakers
from llm.door.flow import current_flow
from tests.llm.doors import HELLO, Planned, Told, ask, at, hello, listen, nothing_left
from tests.llm.metering import RecordingMeter, metered
from tests.llm.upstream import Upstream

MODELS = ["hello", "one-byte", "cut", "garbage", "stall", "silent", "late", "status:500", "limited:0.05", "reset"]
CALLS = 400


@pytest.fixture(autouse=True)
def _quick(settings) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_IDLE_TIMEOUT, settings.LLM_TOTAL_TIMEOUT = 0.9, 0.6, 2.4
    settings.LLM_BREAKER_SECONDS, settings.LLM_QUEUE, settings.LLM_CALLS_PER_HOST = 0.05, 40, 60


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_behind(upstream: Upstream, seed: int, meter: RecordingMeter) -> None:
    chance = random.Random(seed)
    poor = RecordingMeter(pieces=2, extensions=1)
    ends: Counter[str] = Counter()

    async def call() -> None:
        targets = [at(upstream.url, model, f"p{model}", concurrent=8) for model in chance.sample(MODELS, 3)]
        target = Planned(targets, continues=chance.random() < 0.5)
        stream, told = chance.random() < 0.7, Told()
        payer = {"meter": poor} if chance.random() < 0.1 else {"meter": meter}
        urgency = chance.choice([Priority.INTERACTIVE, Priority.BACKGROUND])
        with metered(join=chance.random() < 0.3, priority=urgency, **payer):
            try:
                async with asyncio.timeout(chance.choice([None, None, chance.uniform(0, 0.4)])):
                    answer = await ask(target, hello(target, chance.choice("ab")), stream=stream, told=told)
            except ApplicationError as error:
                ends[error.code] += 1
            except TimeoutError:
                ends["given up"] += 1
            else:
                ends["answered"] += 1
                assert answer.endswith(HELLO)

    async with asyncio.timeout(60):
        await asyncio.gather(*(later(call, chance.uniform(0, 1)) for _ in range(CALLS)))
    await nothing_left()
    meter.check()
    poor.check()
    assert ends.total() == CALLS
    assert ends["answered"], ends
    assert ends["given up"], ends
    assert all(lane.idle for lane in current_flow()._lanes.values())
    assert not any(health.in_flight(endpoint) for endpoint in health._records)
    assert not any(breakers._circuits.get(endpoint).probing for endpoint in breakers)
    assert not joining._under_way


async def later(call, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await call()


async def test_the_door_works_after_that(upstream: Upstream) -> None:
    assert (await listen(at(upstream.url, "hello"))).text == HELLO
