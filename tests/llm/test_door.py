"""The door's promises: metered attempts, other targets, continued answers, and cancel in every state."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import Context
from typing import Any

import pytest

from llm.door.circuits import breakers
from llm.door.continuing import ASK
from llm.exceptions import ProviderError, ProviderTimeout, StreamTruncated
from llm.gateway import gateway
from llm.providers.base import Adapter, ProviderConnection
from llm.targets import ModelTarget
from llm.wire import ChatRequest, Delta, Usage
from tests.llm.doors import HELLO, Planned, Told, ask, at, hello, listen, nothing_left, until
from tests.llm.metering import NoBudget, RecordingMeter, metered
from tests.llm.upstream import Upstream

BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def test_nobody_calls_without_a_context(upstream: Upstream) -> None:
    target = at(upstream.url, "hello")
    with pytest.raises(LookupError):
        Context().run(gateway.stream, hello(target), target)
    with pytest.raises(LookupError):
        Context().run(asyncio.run, gateway.complete(hello(target), target))
    assert not upstream.calls


@BOTH
async def test_a_call_is_metered_to_its_end(upstream: Upstream, meter: RecordingMeter, stream: bool) -> None:
    await ask(at(upstream.url, "hello"), stream=stream, told=Told())
    (call,) = meter.calls
    assert call.heard.completion().text == HELLO
    outcome = call.outcome
    assert outcome.usage == Usage(7, 5, 12)
    assert (outcome.error, outcome.finish_reason, outcome.attempt, outcome.leg) == (None, "stop", 1, 0)
    assert (outcome.reason, outcome.route, outcome.cached) == ("asked for by name", "", False)
    assert (outcome.first_token_ms is not None) == stream
    assert outcome.total_ms >= (outcome.first_token_ms or 0)


@BOTH
async def test_every_attempt_is_metered(upstream: Upstream, meter: RecordingMeter, stream: bool) -> None:
    await ask(at(upstream.url, "flaky:2"), stream=stream, told=Told())
    told = [(call.outcome.attempt, bool(call.outcome.error), call.outcome.reason) for call in meter.calls]
    again = "retry: mock/flaky:2 failed with provider_error"
    assert told == [(1, True, "asked for by name"), (2, True, again), (3, False, again)]


@BOTH
async def test_without_a_budget_nobody_is_asked(upstream: Upstream, stream: bool) -> None:
    target = Planned([at(upstream.url, "hello"), at(upstream.url, "hello", "second")])
    with metered(meter=RecordingMeter(calls_left=0)), pytest.raises(NoBudget):
        await ask(target, stream=stream, told=Told())
    assert not upstream.calls
    await nothing_left()


async def test_a_budget_that_ends_cuts_the_answer(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said stays said; more is reserved only where more is to be said."""
    target, told = Planned([at(upstream.url, "slow"), at(upstream.url, "hello")], continues=True), Told()
    with metered(meter=RecordingMeter(pieces=3, extensions=1)) as meter, pytest.raises(NoBudget):
        await listen(target, told=told)
    (call,) = meter.calls
    assert told.text == "Grüße" * 6 == call.heard.completion().text
    assert (call.outcome.error.code, call.outcome.finish_reason) == ("budget_exceeded", "")
    await until(lambda: "slow" in upstream.closed_at)
    assert not breakers.opened_at(at(upstream.url, "slow").endpoint)
    await nothing_left()


async def test_a_budget_used_up_with_the_answer_s_end_is_enough(upstream: Upstream) -> None:
    pieces = len((await listen(at(upstream.url, "hello"))).deltas)
    with metered(meter=RecordingMeter(pieces=pieces)):
        assert (await listen(at(upstream.url, "hello"))).text == HELLO


async def test_each_target_is_asked_for_its_own_model(upstream: Upstream) -> None:
    await listen(Planned([at(upstream.url, "status:500"), at(upstream.url, "hello")]))
    assert [call["model"] for call in upstream.calls] == ["status:500"] * 3 + ["hello"]


async def test_the_last_error_is_told_when_all_targets_fail(upstream: Upstream, meter: RecordingMeter) -> None:
    with pytest.raises(ProviderError) as caught:
        await listen(Planned([at(upstream.url, "status:401", "a"), at(upstream.url, "limited:60", "b")]))
    assert (caught.value.code, len(meter.calls)) == ("provider_rate_limited", 2)


async def test_a_missing_kind_is_another_target_s_turn(upstream: Upstream, meter: RecordingMeter) -> None:
    gone = ModelTarget(ProviderConnection("gone", "no-such-kind"), "m")
    assert (await listen(Planned([gone, at(upstream.url, "hello")]))).text == HELLO
    assert meter.calls[-1].outcome.reason == "fallback: gone/m failed with provider_kind_missing"


async def test_the_total_bounds_all_targets(upstream: Upstream, settings) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_TOTAL_TIMEOUT = 0.3, 0.5
    targets = [at(upstream.url, f"silent:{number}", f"p{number}") for number in range(5)]
    began = time.monotonic()
    with pytest.raises(ProviderTimeout):
        await listen(Planned(targets))
    assert 0.4 < time.monotonic() - began < 1
    assert len(upstream.calls) < 5


@pytest.mark.parametrize("error", [ValueError("sk-secret"), KeyError("x")])
@BOTH
async def test_a_third_party_s_fault_is_no_fault_of_ours(
    scripted: ModelTarget, monkeypatch: pytest.MonkeyPatch, error: Exception, stream: bool
) -> None:
    async def broken(self: Any, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        raise error
        yield

    monkeypatch.setattr(type(scripted.open()), "stream", broken)
    with pytest.raises(ProviderError) as caught:
        await ask(scripted, stream=stream, told=Told())
    assert (caught.value.code, "sk-secret" in caught.value.message) == ("provider_adapter_failed", False)


async def test_an_adapter_that_stops_without_a_reason_was_cut(
    scripted: ModelTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(self: Any, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        yield Delta(text="half")

    monkeypatch.setattr(type(scripted.open()), "stream", cut)
    with pytest.raises(StreamTruncated):
        await listen(scripted)


# An answer that another target goes on with.


async def test_the_next_target_goes_on_from_what_was_said(upstream: Upstream, meter: RecordingMeter) -> None:
    target = Planned([at(upstream.url, "cut", "first"), at(upstream.url, "hello", "second")], continues=True)
    told = await listen(target, hello(target, "Say it."))
    assert told.text == f"Grüße aus{HELLO}"
    asked = upstream.calls[-1]["messages"]
    assert asked[0] == {"role": "user", "content": "Say it."}
    assert asked[1:] == [{"role": "assistant", "content": "Grüße aus"}, {"role": "user", "content": ASK}]
    first, second = (call.outcome for call in meter.calls)
    assert (first.leg, first.attempt, first.error.code) == (0, 1, "provider_stream_truncated")
    assert (second.leg, second.attempt, second.error, second.finish_reason) == (1, 2, None, "stop")
    assert second.reason == "continued: first/cut failed with provider_stream_truncated"
    assert [call.heard.completion().text for call in meter.calls] == ["Grüße aus", HELLO]


async def test_a_continued_answer_may_break_off_again(upstream: Upstream, meter: RecordingMeter) -> None:
    targets = [at(upstream.url, model, model) for model in ("cut", "garbage", "status:500", "hello")]
    told = await listen(Planned(targets, continues=True))
    assert told.text == f"Grüße ausGrüße{HELLO}"
    assert upstream.calls[-1]["messages"][1]["content"] == "Grüße ausGrüße"
    assert [call.outcome.leg for call in meter.calls] == [0, 1, 2, 3]  # none is asked twice


@pytest.mark.parametrize("continues", [True, False])
async def test_an_answer_that_nobody_continues_fails_as_before(upstream: Upstream, continues: bool) -> None:
    told = Told()
    targets = [at(upstream.url, "cut"), *([] if continues else [at(upstream.url, "hello", "second")])]
    with pytest.raises(StreamTruncated):
        await listen(Planned(targets, continues=continues), told=told)
    assert (told.text, len(upstream.calls)) == ("Grüße aus", 1)


async def test_half_a_document_is_not_continued(upstream: Upstream) -> None:
    target = Planned([at(upstream.url, "cut"), at(upstream.url, "hello", "second")], continues=True)
    with pytest.raises(StreamTruncated):
        await listen(target, hello(target, response_format={"type": "json_object"}))
    assert len(upstream.calls) == 1


async def test_half_a_tool_call_is_not_continued(upstream: Upstream) -> None:
    target = Planned([at(upstream.url, "cut-call"), at(upstream.url, "hello", "second")], continues=True)
    with pytest.raises(StreamTruncated):
        await listen(target)
    assert len(upstream.calls) == 1


async def test_a_model_that_knows_prefixes_is_given_one(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.continuing.PREFIXED", {"openai"})
    await listen(Planned([at(upstream.url, "cut"), at(upstream.url, "hello", "second")], continues=True))
    assert upstream.calls[-1]["messages"][1:] == [{"role": "assistant", "content": "Grüße aus", "prefix": True}]


# Cancel, wherever the call is.


async def waiting_in_a_queue(upstream: Upstream) -> asyncio.Task[Any]:
    target = at(upstream.url, "slow", concurrent=1)
    asyncio.create_task(listen(target), name="other")
    await until(lambda: upstream.seen["slow"])
    return asyncio.create_task(listen(at(upstream.url, "hello", concurrent=1)))


async def connecting(upstream: Upstream) -> asyncio.Task[Any]:
    """To a host whose queue of connections is full."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    others = [socket.socket() for _ in range(2)]
    for other in others:
        other.setblocking(False)
        other.connect_ex(full.getsockname())
    task = asyncio.create_task(listen(at(f"http://127.0.0.1:{full.getsockname()[1]}/v1", "x")))
    task.add_done_callback(lambda _: [held.close() for held in (full, *others)])
    return task


async def waiting_for_the_first_token(upstream: Upstream) -> asyncio.Task[Any]:
    task = asyncio.create_task(listen(at(upstream.url, "silent")))
    await until(lambda: upstream.seen["silent"])
    return task


async def streaming(upstream: Upstream) -> asyncio.Task[Any]:
    told = Told()
    task = asyncio.create_task(listen(at(upstream.url, "slow"), told=told))
    await until(lambda: len(told.deltas) > 2)
    return task


async def waiting_for_the_whole(upstream: Upstream) -> asyncio.Task[Any]:
    target = at(upstream.url, "silent")
    task = asyncio.create_task(gateway.complete(hello(target), target))
    await until(lambda: upstream.seen["silent"])
    return task


async def backing_off(upstream: Upstream) -> asyncio.Task[Any]:
    task = asyncio.create_task(listen(at(upstream.url, "limited:3")))
    await until(lambda: upstream.seen["limited:3"])
    return task


@pytest.mark.parametrize(
    "state",
    [
        waiting_in_a_queue,
        connecting,
        waiting_for_the_first_token,
        streaming,
        waiting_for_the_whole,
        backing_off,
    ],
)
async def test_cancel(upstream: Upstream, meter: RecordingMeter, state: Callable[[Upstream], Any]) -> None:
    task = await state(upstream)
    await asyncio.sleep(0.05)
    open_upstream = [model for model in ("slow", "silent") if upstream.seen[model]]
    began = time.monotonic()
    task.cancel()
    for other in asyncio.all_tasks():
        if other.get_name() == "other":
            other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.1
    await until(lambda: all(model in upstream.closed_at for model in open_upstream))
    assert all(upstream.closed_at[model] - began < 0.1 for model in open_upstream)
    await nothing_left()
    meter.check()
    for call in meter.calls:
        if call.name != "mock/limited:3":
            assert (call.outcome.error, call.outcome.finish_reason) == (None, "")


async def test_a_reader_that_goes_away_ends_the_call(upstream: Upstream, meter: RecordingMeter) -> None:
    target = at(upstream.url, "slow")
    async with aclosing(gateway.stream(hello(target), target)) as deltas:
        async for _ in deltas:
            break
    left = time.monotonic()
    await until(lambda: "slow" in upstream.closed_at)
    assert upstream.closed_at["slow"] - left < 0.1
    meter.check()


async def test_a_cancel_while_the_meter_opens_leaves_nothing_open(upstream: Upstream) -> None:
    with metered(meter=RecordingMeter(open_seconds=0.1)) as meter:
        task = asyncio.create_task(listen(at(upstream.url, "hello")))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nothing_left()
        meter.check()
    assert (len(meter.calls), len(upstream.calls)) == (1, 0)
    assert not meter.calls[0].outcome.sent


async def test_a_second_cancel_does_not_lose_the_close(upstream: Upstream) -> None:
    with metered(meter=RecordingMeter()) as meter:
        task = asyncio.create_task(listen(at(upstream.url, "slow")))
        await until(lambda: meter.calls and meter.calls[0].pieces)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        meter.check()


class Awkward(Adapter):
    """Closes slowly, as an SDK may."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._stream()

    async def _stream(self) -> AsyncGenerator[Delta, None]:
        try:
            while True:
                yield Delta(text="x")
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.02)


async def test_the_upstream_is_closed_before_the_meter(scripted: ModelTarget, monkeypatch, meter) -> None:
    """So that what is counted is all that was said."""
    monkeypatch.setattr(type(scripted.open()), "stream", lambda self, request: Awkward().stream(request))
    async with aclosing(gateway.stream(hello(scripted), scripted)) as deltas:
        seen = [await anext(deltas) for _ in range(5)]
    assert (len(seen), meter.calls[0].pieces) == (5, 5)


class Stubborn(Adapter):
    """Makes an error of its own of a cancellation, as some SDKs do."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise RuntimeError("interrupted") from None
        yield Delta(text="x")


@BOTH
async def test_a_deadline_holds_whatever_an_sdk_makes_of_it(
    scripted: ModelTarget, monkeypatch: pytest.MonkeyPatch, settings, stream: bool
) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT = 0.05
    monkeypatch.setattr(type(scripted.open()), "stream", Stubborn.stream)
    with pytest.raises(ProviderTimeout):
        await ask(scripted, stream=stream, told=Told())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
