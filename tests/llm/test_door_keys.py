"""A model that may be asked with several keys: how often, with which, and that a failed call waits for no room."""

import time

import pytest

from core.errors import RateLimited
from llm.exceptions import ProviderError
from tests.llm.doors import HELLO, Planned, Told, ask, at, listen
from tests.llm.metering import RecordingMeter
from tests.llm.upstream import Upstream


def keys(upstream: Upstream, model: str, count: int = 3, **limits: int) -> Planned:
    """The first key is the limited one."""
    first = at(upstream.url, model, key_id="k0", **limits)
    return Planned([first, *(at(upstream.url, model, key_id=f"k{number}") for number in range(1, count))])


def asked(meter: RecordingMeter) -> list[str]:
    return [call.target.connection.key_id for call in meter.calls]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_fault_of_the_model_is_tried_no_more_for_many_keys(
    upstream: Upstream, meter: RecordingMeter, stream: bool
) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        await ask(keys(upstream, "status:500", count=5, rpm=1), stream=stream, told=Told())
    assert caught.value.code == "provider_error"
    assert asked(meter) == ["k0", "k1", "k1"]  # LLM_ATTEMPTS; the first key has no room for more
    assert time.monotonic() - began < 1


async def test_a_failed_call_waits_for_no_room(upstream: Upstream, meter: RecordingMeter) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        await listen(at(upstream.url, "status:500", rpm=1))
    assert (caught.value.code, len(meter.calls)) == ("provider_error", 1)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("model", ["status:401", "quota", "status:429", "limited:60"])
async def test_a_fault_of_the_key_leaves_the_others(
    upstream: Upstream, meter: RecordingMeter, model: str, settings
) -> None:
    settings.LLM_ATTEMPTS = 1
    plan = keys(upstream, model)
    target = Planned([*plan.targets, at(upstream.url, "hello", "second")])
    assert (await listen(target)).text == HELLO
    assert asked(meter) == ["k0", "k1", "k2", ""]


async def test_another_model_is_asked_once_the_tries_of_the_first_are_used_up(
    upstream: Upstream, meter: RecordingMeter
) -> None:
    target = Planned([*keys(upstream, "status:500").targets, at(upstream.url, "hello", "second")])
    assert (await listen(target)).text == HELLO
    assert asked(meter) == ["k0", "k0", "k0", ""]


async def test_the_wait_for_room_has_one_end(upstream: Upstream, settings) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT = 0.2
    target = at(upstream.url, "hello", rpm=1)
    await listen(target)
    began = time.monotonic()
    with pytest.raises(RateLimited) as caught:
        await listen(target)
    assert caught.value.code == "provider_queue_timeout"
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(("attempts", "keys_asked"), [(3, ["k0", "k1", "k2", ""]), (2, ["k0", "k1", ""])])
async def test_another_key_goes_on_with_an_answer(
    upstream: Upstream, meter: RecordingMeter, settings, attempts: int, keys_asked: list[str]
) -> None:
    """However long the answer had been under way; but no more often than a model is tried."""
    settings.LLM_ATTEMPTS, settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_IDLE_TIMEOUT = attempts, 0.3, 0.35
    targets = [*keys(upstream, "stall").targets, at(upstream.url, "hello", "second")]
    assert (await listen(Planned(targets, continues=True))).text.endswith(HELLO)
    assert asked(meter) == keys_asked
