"""Flow control: limits per key and host, the queue with its priorities, and what a full one says."""

import asyncio
import time
from typing import Any
from uuid import UUID

import pytest

from core.errors import RateLimited
from core.ids import uuid7
from llm.calls import Priority
from llm.door.flow import Bucket, Flow, Lane, Permit, current_flow
from llm.providers.base import Limits
from llm.targets import ModelTarget
from tests.llm.doors import HELLO, Planned, at, hello, listen, nothing_left, until
from tests.llm.metering import RecordingMeter, metered
from tests.llm.upstream import Upstream

FAR = 1e9


async def enter(lane: Lane, priority: Priority = Priority.INTERACTIVE, tokens: int = 0, seconds: float = 5) -> None:
    await lane.enter(tokens, priority, asyncio.get_running_loop().time() + seconds)


def test_a_bucket_is_full_at_first_and_fills_in_a_minute() -> None:
    bucket = Bucket(60, now=0)
    for _ in range(60):
        assert bucket.wait(1, 0) == 0
        bucket.take(1, 0)
    assert bucket.wait(1, 0) == pytest.approx(1)
    assert bucket.wait(30, 10) == pytest.approx(20)
    assert bucket.wait(1000, 60) == 0  # more than it can hold: all that it holds must be there
    bucket.take(1000, 60)
    assert bucket.wait(1, 60) > 900


async def test_the_urgent_go_first_and_none_is_left_for_good() -> None:
    lane = Lane("p", Limits(concurrent=1))
    await enter(lane)
    order: list[Any] = []

    async def wait(name: str, priority: Priority) -> None:
        await enter(lane, priority)
        order.append(name)
        lane.leave(0, 0)

    waiting = []
    for name, priority in (("b1", 10), ("b2", 10), ("i1", 0), ("i2", 0)):
        waiting.append(asyncio.create_task(wait(name, Priority(priority))))
        await asyncio.sleep(0)
    lane._waiting[None][-1].turn -= 20  # the second background call has waited for longer than the priority weighs
    lane._waiting[None].sort()
    lane.leave(0, 0)
    await asyncio.gather(*waiting)
    assert order == ["b2", "i1", "i2", "b1"]
    assert lane.idle


async def test_a_minute_s_limit_is_waited_for() -> None:
    lane = Lane("p", Limits(rpm=600))
    for _ in range(600):
        await enter(lane)
    began = time.monotonic()
    await asyncio.gather(*(enter(lane) for _ in range(3)))
    assert 0.2 < time.monotonic() - began < 1


async def test_tokens_are_settled_by_what_was_used() -> None:
    lane = Lane("p", Limits(tpm=600))
    await enter(lane, tokens=600)
    assert not lane.has_room(100)
    lane.leave(600, 100)
    assert lane.has_room(500)
    assert not lane.has_room(600)


async def test_changed_limits_hold_at_once() -> None:
    lane = Lane("p", Limits(concurrent=1))
    await enter(lane)
    waiting = asyncio.create_task(enter(lane))
    await asyncio.sleep(0)
    lane.set(Limits(concurrent=2))
    await waiting
    assert not lane.has_room(0)


async def test_cancelled_waiters_leave_the_queue() -> None:
    lane = Lane("p", Limits(concurrent=1))
    await enter(lane)
    gone, stays = asyncio.create_task(enter(lane)), asyncio.create_task(enter(lane))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert len(lane._waiting[None]) == 1
    lane.leave(0, 0)
    await stays
    given = asyncio.create_task(enter(lane))
    await asyncio.sleep(0)
    lane.leave(0, 0)  # it is let in, and cancelled before it knows
    given.cancel()
    await asyncio.gather(given, return_exceptions=True)
    assert lane.idle


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(concurrent=1), "1 calls at once (its setting limits.concurrent)"),
        (Limits(rpm=1), "1 requests a minute (its setting limits.rpm)"),
        (Limits(tpm=10), "10 tokens a minute (its setting limits.tpm)"),
    ],
)
async def test_what_is_full_says_which_setting_raises_it(settings, limits: Limits, says: str) -> None:
    settings.LLM_QUEUE = 1
    lane = Lane("p", limits)
    await enter(lane, tokens=10)
    waiting = asyncio.create_task(enter(lane, tokens=10, seconds=0.1))
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="LLM_QUEUE") as full:
        await enter(lane, tokens=10)
    assert (full.value.status, full.value.code) == (429, "provider_queue_full")
    assert says in full.value.message
    with pytest.raises(RateLimited, match="LLM_FIRST_TOKEN_TIMEOUT") as late:
        await waiting
    assert late.value.code == "provider_queue_timeout"
    assert says in late.value.message
    assert late.value.retry_after is not None
    assert late.value.retry_after >= 1


async def test_calls_at_once_through_the_gateway(upstream: Upstream, meter: RecordingMeter) -> None:
    """Never more than the limit, whatever the models; each in the end."""
    targets = [at(upstream.url, model, concurrent=3) for model in ("hello", "one-byte")]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, sum(not call.outcomes for call in meter.calls))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    told = await asyncio.gather(*(listen(target) for target in targets for _ in range(10)))
    watching.cancel()
    assert {told.text for told in told} == {HELLO}
    assert most == 3


async def test_the_calls_to_a_host_are_limited_over_all_its_providers(upstream: Upstream, settings) -> None:
    settings.LLM_CALLS_PER_HOST, settings.LLM_QUEUE, settings.LLM_FIRST_TOKEN_TIMEOUT = 1, 1, 0.3
    slow = asyncio.create_task(listen(at(upstream.url, "slow", "one")))
    await until(lambda: upstream.seen["slow"])
    waiting = asyncio.create_task(listen(at(upstream.url, "hello", "two")))
    await asyncio.sleep(0.01)
    with pytest.raises(RateLimited, match="LLM_CALLS_PER_HOST") as full:
        await listen(at(upstream.url, "hello", "three"))
    assert full.value.code == "provider_queue_full"
    with pytest.raises(RateLimited) as late:
        await waiting
    assert late.value.code == "provider_queue_timeout"
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert (await listen(at(upstream.url, "hello", "two"))).text == HELLO
    await nothing_left()


async def test_one_tenant_leaves_room_for_the_others(settings) -> None:
    """Whatever it has under way and waiting, and without a word to it or of it to others."""
    settings.LLM_CALLS_PER_HOST, settings.LLM_QUEUE = 8, 2
    many, one, flow, soon = uuid7(), uuid7(), Flow(), asyncio.get_running_loop().time() + 5

    async def call(tenant_id: UUID, priority: Priority = Priority.INTERACTIVE) -> Permit:
        target = at("http://host/v1", "hello", tenant_id=tenant_id)
        return await flow.admit(target, hello(target), priority, soon)

    held = [await call(many) for _ in range(6)]
    waiting = [asyncio.create_task(call(many, priority)) for priority in (Priority.BACKGROUND, Priority.INTERACTIVE)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="LLM_CALLS_PER_HOST") as full:
        await call(many)
    assert not any(character.isdigit() for character in full.value.message)
    others = [await call(one) for _ in range(2)]  # at once
    assert not any(permit.waited for permit in others)
    behind = [asyncio.create_task(call(one)) for _ in range(2)]
    await asyncio.sleep(0)
    order = []
    for _ in range(4):  # who has least goes first, then what is urgent
        held.pop(0).give_back(None)
        (entered,) = (await asyncio.wait({*waiting, *behind}, return_when=asyncio.FIRST_COMPLETED))[0]
        order.append("many" if entered in waiting else "one")
        if entered in waiting:
            assert entered is waiting.pop()
        else:
            behind.remove(entered)
        others.append(entered.result())
    assert order == ["one", "one", "many", "many"]
    for permit in (*held, *others):
        permit.give_back(None)
    assert all(lane.idle for lane in flow._lanes.values())


async def test_who_has_no_room_is_passed_over(upstream: Upstream, meter: RecordingMeter) -> None:
    slow = asyncio.create_task(listen(at(upstream.url, "slow", "first", concurrent=1)))
    await until(lambda: upstream.seen["slow"])
    target = Planned([at(upstream.url, "hello", "first", concurrent=1), at(upstream.url, "hello", "second")])
    assert (await listen(target)).text == HELLO
    assert meter.calls[-1].name == "second/hello"
    assert meter.calls[-1].outcome.reason == "fallback: first/hello has no room"
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_whoever_has_room_first_is_asked(upstream: Upstream, meter: RecordingMeter) -> None:
    """Where none has room, the call waits for all; what it is given too much goes back."""
    slow = {
        slug: asyncio.create_task(listen(at(upstream.url, f"slow:{slug}", slug, concurrent=1)))
        for slug in ("one", "two", "three")
    }
    await until(lambda: upstream.seen.total() == 3)
    targets = [at(upstream.url, "hello", slug, concurrent=1) for slug in slow]
    call = asyncio.create_task(listen(Planned(targets)))
    await asyncio.sleep(0.02)
    assert not call.done()
    for slug in ("three", "two"):  # in the same moment
        slow[slug].cancel()
    assert (await call).text == HELLO
    assert meter.calls[-1].name in ("three/hello", "two/hello")
    slow["one"].cancel()
    await asyncio.gather(*slow.values(), return_exceptions=True)
    await nothing_left()
    assert all(lane.idle for lane in current_flow()._lanes.values())


async def test_when_no_queue_takes_it_the_first_one_s_limit_is_told(upstream: Upstream, settings) -> None:
    settings.LLM_QUEUE, settings.LLM_FIRST_TOKEN_TIMEOUT = 1, 0.1
    calls = [asyncio.create_task(listen(at(upstream.url, "slow", slug, concurrent=1))) for slug in ("a", "a", "b", "b")]
    await until(lambda: upstream.seen["slow"] == 2)
    with pytest.raises(RateLimited, match="'a' is limited") as full:
        await listen(Planned([at(upstream.url, "hello", slug, concurrent=1) for slug in ("a", "b")]))
    assert full.value.code == "provider_queue_full"
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_background_call_lets_others_pass(upstream: Upstream) -> None:
    target = at(upstream.url, "hello", concurrent=1)
    slow = asyncio.create_task(listen(at(upstream.url, "slow", concurrent=1)))
    await until(lambda: upstream.seen["slow"])
    order: list[str] = []

    async def call(name: str, priority: Priority) -> None:
        with metered(priority=priority):
            await listen(target)
        order.append(name)

    calls = [asyncio.create_task(call("background", Priority.BACKGROUND))]
    await asyncio.sleep(0.01)
    calls.append(asyncio.create_task(call("interactive", Priority.INTERACTIVE)))
    await asyncio.sleep(0.01)
    slow.cancel()
    await asyncio.gather(slow, *calls, return_exceptions=True)
    assert order == ["interactive", "background"]


async def test_lanes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.flow.MAX_LANES", 5)
    for number in range(50):
        target: ModelTarget = at("", "m", f"p{number}", concurrent=1)
        permit = await current_flow().admit(target, hello(target), Priority.INTERACTIVE, FAR)
        permit.give_back(None)
        permit.give_back(None)  # once is enough
    assert len(current_flow()._lanes) <= 6
