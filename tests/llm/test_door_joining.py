"""Identical calls under way share one call of the provider."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from core.ids import uuid7
from llm.door import joining
from llm.exceptions import StreamTruncated
from llm.gateway import gateway
from llm.wire import Usage
from tests.llm.doors import HELLO, Planned, Told, at, hello, listen, nothing_left, until
from tests.llm.metering import NoBudget, RecordingMeter, metered
from tests.llm.playing import Player, target_of
from tests.llm.upstream import Upstream


@pytest.fixture(autouse=True)
def meter() -> Iterator[RecordingMeter]:
    """All calls of a test may be joined."""
    with metered(join=True) as meter:
        yield meter
    meter.check()
    assert not joining._under_way


async def test_one_call_of_the_provider_for_all(upstream: Upstream, meter: RecordingMeter) -> None:
    target = at(upstream.url, "one-byte")
    told = await asyncio.gather(*(listen(target) for _ in range(20)))
    assert {told.text for told in told} == {HELLO}
    assert len(upstream.calls) == 1
    paid, *free = sorted((call.outcome for call in meter.calls), key=lambda outcome: outcome.cached)
    assert (paid.cached, paid.usage, len(free)) == (False, Usage(7, 5, 12), 19)
    for outcome in free:
        assert (outcome.cached, outcome.usage, outcome.finish_reason) == (True, Usage(7, 5, 12), "stop")
        assert outcome.reason == "joined: an identical call was under way"
    await nothing_left()


async def test_who_comes_later_hears_all_of_it(upstream: Upstream) -> None:
    first, later = Told(), Told()
    target = at(upstream.url, "slow")
    calls = [asyncio.create_task(listen(target, told=first))]
    await until(lambda: len(first.deltas) > 5)
    calls.append(asyncio.create_task(listen(target, told=later)))
    await until(lambda: len(later.deltas) > 8)
    assert first.deltas[:8] == later.deltas[:8]
    assert len(upstream.calls) == 1
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await nothing_left()


async def test_it_goes_on_while_anybody_listens(upstream: Upstream, meter: RecordingMeter) -> None:
    target, told = at(upstream.url, "slow"), [Told(), Told(), Told()]
    calls = [asyncio.create_task(listen(target, told=each)) for each in told]
    await until(lambda: all(each.deltas for each in told))
    for call in calls[:2]:  # the one who pays among them
        call.cancel()
    await asyncio.gather(*calls[:2], return_exceptions=True)
    heard = len(told[2].deltas)
    await until(lambda: len(told[2].deltas) > heard + 3)
    assert "slow" not in upstream.closed_at
    assert sum(not call.outcomes for call in meter.calls) == 2
    late = asyncio.create_task(listen(target, told=(late_told := Told())))
    await until(lambda: len(late_told.deltas) > heard)
    assert len(upstream.calls) == 1
    left = time.monotonic()
    for call in (calls[2], late):
        call.cancel()
    await asyncio.gather(calls[2], late, return_exceptions=True)
    await until(lambda: "slow" in upstream.closed_at)
    assert upstream.closed_at["slow"] - left < 0.1
    await nothing_left()


async def test_after_the_last_has_left_a_new_call_begins(upstream: Upstream) -> None:
    target = at(upstream.url, "slow")
    for number in range(1, 4):
        call = asyncio.create_task(listen(target))
        await until(lambda number=number: len(upstream.calls) == number)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert (await listen(at(upstream.url, "hello"))).text == HELLO
    assert (await listen(at(upstream.url, "hello"))).text == HELLO
    assert upstream.seen["hello"] == 2  # one that is over is not joined


async def test_all_hear_of_its_failure(upstream: Upstream, meter: RecordingMeter) -> None:
    told = [Told() for _ in range(5)]
    target = at(upstream.url, "cut")
    results = await asyncio.gather(*(listen(target, told=each) for each in told), return_exceptions=True)
    assert {type(result) for result in results} == {StreamTruncated}
    assert {each.text for each in told} == {"Grüße aus"}
    assert {call.outcome.error.code for call in meter.calls} == {"provider_stream_truncated"}
    assert len(upstream.calls) == 1
    paid, *free = sorted((call.outcome for call in meter.calls), key=lambda outcome: outcome.cached)
    assert (paid.sent, len(free)) == (True, 4)
    assert {(outcome.cached, outcome.sent, outcome.usage) for outcome in free} == {(True, False, None)}


async def test_what_was_counted_before_it_failed_is_no_saving(player: Player, meter: RecordingMeter) -> None:
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 1}
    said = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}], "usageMetadata": counted}
    player.says(said)
    player.cut = True
    target = target_of("google", player.url)
    results = await asyncio.gather(*(listen(target) for _ in range(2)), return_exceptions=True)
    assert {type(result) for result in results} == {StreamTruncated}
    paid, free = sorted((call.outcome for call in meter.calls), key=lambda outcome: outcome.cached)
    assert paid.usage is not None
    assert (free.usage, free.finish_reason, free.sent) == (None, "", False)


async def test_only_what_is_the_same_is_joined(upstream: Upstream) -> None:
    target = at(upstream.url, "one-byte")
    requests = [hello(target, "a"), hello(target, "b"), hello(target, "a", temperature=1)]
    calls = [listen(target, request) for request in requests]
    calls += [listen(at(upstream.url, "one-byte", "other"), requests[0])]

    async def of_another_tenant() -> None:
        with metered(tenant_id=uuid7(), join=True):
            await listen(target, requests[0])

    async def who_does_not_join() -> None:
        with metered():
            await listen(target, requests[0])

    await asyncio.gather(*calls, of_another_tenant(), who_does_not_join())
    assert len(upstream.calls) == 6


async def test_whole_answers_join_as_well(upstream: Upstream) -> None:
    target = at(upstream.url, "one-byte")
    answers = await asyncio.gather(*(gateway.complete(hello(target), target) for _ in range(3)), listen(target))
    assert {answer.text for answer in answers} == {HELLO}
    assert len(upstream.calls) == 1


async def test_who_has_no_budget_joins_nothing(upstream: Upstream) -> None:
    target = Planned([at(upstream.url, "slow")])
    first = asyncio.create_task(listen(target))
    await until(lambda: upstream.seen["slow"])
    with metered(tenant_id=joining_tenant(), join=True, meter=RecordingMeter(calls_left=0)), pytest.raises(NoBudget):
        await listen(target)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await nothing_left()


def joining_tenant():
    """That of the call under way."""
    ((_, tenant_id, _),) = joining._under_way
    return tenant_id


@pytest.mark.parametrize("pieces", [0, 2])
async def test_the_payer_s_budget_is_the_payer_s_matter(upstream: Upstream, pieces: int) -> None:
    """Who joined goes on alone, or hears that the answer broke off; never of another's budget."""
    tenant_id, target = uuid7(), at(upstream.url, "one-byte")
    poor = RecordingMeter(pieces=pieces) if pieces else RecordingMeter(calls_left=0)
    told, heard = Told(), Told()

    async def pay() -> None:
        with metered(tenant_id=tenant_id, join=True, meter=poor):
            await listen(target, told=told)

    async def join() -> None:
        with metered(tenant_id=tenant_id, join=True):
            await asyncio.sleep(0)
            await listen(target, told=heard)

    paid, joined = await asyncio.gather(pay(), join(), return_exceptions=True)
    assert isinstance(paid, NoBudget)
    if pieces:
        assert isinstance(joined, StreamTruncated)
        assert heard.text == told.text
    else:
        assert (joined, heard.text) == (None, HELLO)
