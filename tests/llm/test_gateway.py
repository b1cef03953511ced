"""The gateway's own promises, with the deterministic model behind it."""

import asyncio
import json
import time
from contextlib import aclosing
from typing import Any

import pytest

from llm.door.cleaning import MAX_CALL_ID
from llm.exceptions import BadAnswer, ProviderError, ProviderRateLimited, ProviderTimeout
from llm.gateway import gateway
from llm.targets import ModelTarget
from llm.wire import ChatRequest, Delta, ToolCallDelta


def script(*steps: Any) -> ChatRequest:
    return ChatRequest("default", [{"role": "user", "content": f"#script {json.dumps(steps)}"}])


async def collect(request: ChatRequest, target: ModelTarget) -> list[Delta]:
    async with aclosing(gateway.stream(request, target)) as deltas:
        return [delta async for delta in deltas]


async def test_a_slow_reader_does_not_time_out(scripted: ModelTarget, settings) -> None:
    settings.LLM_IDLE_TIMEOUT = settings.LLM_FIRST_TOKEN_TIMEOUT = 0.1
    texts = []
    async with aclosing(gateway.stream(script({"say": "one two three"}), scripted)) as deltas:
        async for delta in deltas:
            texts.append(delta.text)
            await asyncio.sleep(0.15)
    assert texts[:3] == ["one", " two", " three"]


async def test_many_short_waits_are_no_silence(scripted: ModelTarget, settings) -> None:
    settings.LLM_IDLE_TIMEOUT = 0.5
    deltas = await collect(script({"repeat": "x", "times": 12, "delay_ms": 50}), scripted)
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("limit", ["LLM_MAX_ANSWER", "LLM_MAX_DELTAS"])
async def test_an_answer_without_an_end_is_cut(scripted: ModelTarget, settings, limit: str) -> None:
    request = script({"repeat": "x", "times": 60})
    assert len(await collect(request, scripted)) >= 60
    setattr(settings, limit, 50)
    with pytest.raises(BadAnswer, match="longer than is accepted"):
        await collect(request, scripted)


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
async def test_what_no_database_takes_is_replaced(scripted: ModelTarget, monkeypatch, bad: str) -> None:
    async def stream(self: Any, request: ChatRequest) -> Any:
        call = ToolCallDelta(0, "i" * 500, bad, bad, {"sign": bad, "big": 2.0**70})
        yield Delta(bad, bad, [call], None, None, bad)
        yield Delta(finish_reason="tool_calls")

    monkeypatch.setattr(type(scripted.open()), "stream", stream)
    first, _ = await collect(script(), scripted)
    said = "a\N{REPLACEMENT CHARACTER}b"
    assert (first.text, first.reasoning, first.refusal) == (said, said, said)
    call = first.tool_calls[0]
    assert (call.name, call.arguments, call.extra_content) == (said, said, {"sign": said, "big": str(2.0**70)})
    assert len(call.id) <= MAX_CALL_ID


async def test_the_first_token_s_deadline_spans_the_attempts(scripted: ModelTarget, settings, monkeypatch) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT = 0.3
    settings.LLM_ATTEMPTS = 100
    monkeypatch.setattr("llm.door.retry.BACKOFF", 0.05)
    started = time.monotonic()
    with pytest.raises(ProviderError):
        await collect(script({"fail": 500, "delay_ms": 50}), scripted)
    assert time.monotonic() - started < 2


async def test_the_last_failure_is_told(scripted: ModelTarget, settings) -> None:
    settings.LLM_ATTEMPTS = 2
    started = time.monotonic()
    with pytest.raises(ProviderRateLimited) as caught:
        await collect(script({"fail": 429, "retry_after": 0.1}), scripted)
    assert time.monotonic() - started >= 0.1
    assert caught.value.retry_after == 0.1


async def test_a_longer_wait_than_allowed_is_not_waited(scripted: ModelTarget, settings) -> None:
    settings.LLM_MAX_RETRY_WAIT = 0.05
    started = time.monotonic()
    with pytest.raises(ProviderRateLimited):
        await collect(script({"fail": 429, "retry_after": 5}), scripted)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("steps", [[{"fail": "hang"}], [{"say": "x"}, {"fail": "hang"}]])
async def test_a_cancel_is_a_cancel_and_a_deadline_a_deadline(
    scripted: ModelTarget, settings, steps: list[Any]
) -> None:
    """Also when both are near: the outer timeout gets its own cancellation back."""
    settings.LLM_IDLE_TIMEOUT = settings.LLM_FIRST_TOKEN_TIMEOUT = 0.2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await collect(script(*steps), scripted)
    with pytest.raises(ProviderTimeout):
        async with asyncio.timeout(1):
            await collect(script(*steps), scripted)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_no_timer_is_left_behind(scripted: ModelTarget) -> None:
    loop = asyncio.get_running_loop()
    await collect(script({"say": "x"}), scripted)
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
