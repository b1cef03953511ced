"""The adapter for OpenAI-compatible providers against a real server that fails in every way."""

import asyncio
import time
from contextlib import aclosing, suppress

import pytest

from llm.exceptions import (
    BadAnswer,
    ModelNotFound,
    ProviderAuthentication,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    StreamTruncated,
)
from llm.gateway import gateway
from llm.providers import provider_kind
from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from llm.wire import Accumulator, ChatRequest, Completion, Delta
from tests.llm.upstream import SECRET_TEXT, WORDS, Upstream

TEXT = "".join(WORDS)


def ask(model: str, **params: object) -> ChatRequest:
    return ChatRequest(model, [{"role": "user", "content": "Hi"}], params)


async def collect(target: ModelTarget, request: ChatRequest | None = None) -> Completion:
    answer = Accumulator()
    async with aclosing(gateway.stream(request or ask(target.model), target)) as deltas:
        async for delta in deltas:
            answer.add(delta)
    return answer.completion()


@pytest.mark.parametrize(
    "model",
    ["hello", "no-done", "no-finish", "no-blank-line", "crlf", "comments", "one-byte", "json", "groq", "two-choices"],
)
async def test_every_shape_of_a_good_stream(target, model: str) -> None:
    answer = await collect(target(model))
    assert (answer.text, answer.finish_reason) == (TEXT, "stop")


async def test_request_and_usage(target, upstream: Upstream) -> None:
    request = ask("hello", temperature=0.5, stream_options={"include_usage": False}, stream=False)
    answer = await collect(target("hello", organization="org-1"), request)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.model) == (7, 5, "mock-1")
    sent = upstream.calls[0]
    assert (sent["model"], sent["stream"], sent["temperature"]) == ("hello", True, 0.5)
    assert sent["stream_options"] == {"include_usage": True}
    headers = upstream.headers[0]
    assert headers["Authorization"] == "Bearer sk-test-key"
    assert headers["OpenAI-Organization"] == "org-1"


async def test_stream_usage_can_be_left_out(target, upstream: Upstream) -> None:
    await collect(target("hello", stream_usage=False))
    assert "stream_options" not in upstream.calls[0]


async def test_connection_is_reused(target, upstream: Upstream) -> None:
    for _ in range(5):
        await collect(target("hello"))
        await gateway.complete(ask("hello"), target("hello"))
    assert len(upstream.connections) == 1


async def test_ten_megabytes_in_one_chunk(target) -> None:
    assert len((await collect(target("big"))).text) == 10_000_000


async def test_complete(target, upstream: Upstream) -> None:
    answer = await gateway.complete(ask("hello"), target("hello"))
    assert (answer.text, answer.finish_reason, answer.model) == (TEXT, "stop", "mock-1")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert upstream.calls[0]["stream"] is False


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("model", "error", "code", "calls"),
    [
        ("status:400", ProviderRejected, "provider_rejected", 1),
        ("status:422", ProviderRejected, "provider_rejected", 1),
        ("context", ProviderRejected, "context_length_exceeded", 1),
        ("code:content_filter", ProviderRejected, "content_filter", 1),
        ("status:401", ProviderAuthentication, "provider_authentication", 1),
        ("status:403", ProviderAuthentication, "provider_authentication", 1),
        ("status:402", ProviderError, "provider_quota_exhausted", 1),
        ("quota", ProviderError, "provider_quota_exhausted", 1),
        ("status:404", ModelNotFound, "model_not_found", 1),
        ("redirect", ProviderError, "provider_redirected", 1),
        ("html", BadAnswer, "provider_bad_answer", 1),
        ("status:408", ProviderTimeout, "provider_timeout", 3),
        ("status:429", ProviderRateLimited, "provider_rate_limited", 3),
        ("status:500", ProviderError, "provider_error", 3),
        ("status:503", ProviderError, "provider_error", 3),
        ("status:529", ProviderError, "provider_error", 3),
        ("wait:3600", ProviderRateLimited, "provider_rate_limited", 1),
        ("wait:Fri, 01 Jan 2100 00:00:00 GMT", ProviderRateLimited, "provider_rate_limited", 1),
    ],
)
async def test_failures_before_the_answer(target, upstream: Upstream, caplog, model, error, code, calls, whole) -> None:
    with pytest.raises(error) as caught:
        await (gateway.complete(ask(model), target(model)) if whole else collect(target(model)))
    assert caught.value.code == code
    assert len(upstream.calls) == calls
    assert SECRET_TEXT not in str(caught.value.body())
    assert SECRET_TEXT not in caplog.text


@pytest.mark.parametrize(
    ("model", "error", "calls"),
    [
        ("cut", StreamTruncated, 1),
        ("reset", StreamTruncated, 1),
        ("garbage", BadAnswer, 1),
        ("error-event", ProviderError, 1),
        ("error-finish", ProviderError, 1),
        ("cut-at-once", StreamTruncated, 3),
        ("empty", StreamTruncated, 3),
        ("error-first", ProviderRateLimited, 3),
        ("error-named", ProviderError, 3),
    ],
)
async def test_failures_within_the_stream(target, upstream: Upstream, model: str, error, calls: int) -> None:
    """Retried only when nothing has come out yet; never taken for a finished answer."""
    with pytest.raises(error) as caught:
        await collect(target(model))
    assert len(upstream.calls) == calls
    assert SECRET_TEXT not in str(caught.value.body())


@pytest.mark.parametrize(("model", "error"), [("cut", StreamTruncated), ("garbage", BadAnswer)])
async def test_bad_whole_answers(target, model: str, error) -> None:
    with pytest.raises(error):
        await gateway.complete(ask(model), target(model))


@pytest.mark.parametrize("model", ["flaky:1", "flaky:2", "busy:30", "wait:0"])
async def test_passing_failures_are_retried(target, upstream: Upstream, model: str) -> None:
    assert (await collect(target(model))).text == TEXT
    assert (await gateway.complete(ask(model), target(model))).text == TEXT
    assert len(upstream.calls) == int(model[-1] if model.startswith("flaky") else 1) + 2


async def test_retry_after_is_waited_for(target) -> None:
    started = time.monotonic()
    await collect(target("busy:150"))
    assert time.monotonic() - started >= 0.15


async def test_number_of_attempts_is_a_setting(target, upstream: Upstream, settings) -> None:
    settings.LLM_ATTEMPTS = 1
    with pytest.raises(ProviderError):
        await collect(target("flaky:1"))
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    ("model", "name"),
    [("silent", "LLM_FIRST_TOKEN_TIMEOUT"), ("stall", "LLM_IDLE_TIMEOUT"), ("slow", "LLM_TOTAL_TIMEOUT")],
)
async def test_deadlines(target, upstream: Upstream, settings, model: str, name: str) -> None:
    setattr(settings, name, 0.2)
    started = time.monotonic()
    with pytest.raises(ProviderTimeout):
        await collect(target(model))
    assert 0.15 < time.monotonic() - started < 5
    assert len(upstream.calls) == 1


async def test_deadline_of_a_whole_answer(target, settings) -> None:
    settings.LLM_TOTAL_TIMEOUT = 0.2
    with pytest.raises(ProviderTimeout):
        await gateway.complete(ask("silent"), target("silent"))


async def test_nothing_listens(target, unused_tcp_port: int) -> None:
    connection = ProviderConnection("dead", "openai", f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ProviderError) as caught:
        await collect(ModelTarget(connection, "x"))
    assert caught.value.code == "provider_unreachable"


async def test_finished_answer_does_not_wait_for_a_late_close(target) -> None:
    started = time.monotonic()
    assert (await collect(target("late-close"))).text == TEXT
    assert time.monotonic() - started < 1.5


async def end_a_call(target: ModelTarget, upstream: Upstream, how: str) -> float:
    """Seconds from the end of our call to the end of the provider's."""
    upstream.reset()
    got = asyncio.Event()

    async def read() -> None:
        async with aclosing(gateway.stream(ask(target.model), target)) as deltas:
            async for _ in deltas:
                got.set()
                if how == "close":
                    return

    task = asyncio.create_task(read())
    async with asyncio.timeout(20):
        while not upstream.calls:  # noqa: ASYNC110 the provider runs in another thread
            await asyncio.sleep(0.01)
        if how != "cancel-before-answer":
            await got.wait()
    ended = time.monotonic()
    if how != "close":
        task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.15)
    return upstream.closed_at[target.model] - ended


@pytest.mark.parametrize("how", ["cancel", "close", "cancel-before-answer"])
async def test_ending_a_call_closes_the_upstream_at_once(target, upstream: Upstream, how: str) -> None:
    """The best of three: the machine that runs the tests may be busy."""
    model = target("silent" if how == "cancel-before-answer" else "slow")
    assert min([await end_a_call(model, upstream, how) for _ in range(3)]) < 0.1


async def test_no_task_is_left_behind(target) -> None:
    before = asyncio.all_tasks()
    for model in ("hello", "cut", "reset", "garbage"):
        with suppress(ProviderError):
            await collect(target(model))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_many_at_once_do_not_mix(target) -> None:
    answers = await asyncio.gather(*(collect(target("hello")) for _ in range(150)))
    assert {answer.text for answer in answers} == {TEXT}


async def test_several_answers_are_refused(target) -> None:
    with pytest.raises(ProviderRejected, match="Only one answer"):
        await collect(target("hello"), ask("hello", n=2))


async def test_what_json_cannot_say_is_refused(target) -> None:
    with pytest.raises(ProviderRejected):
        await collect(target("hello"), ask("hello", stop=object()))


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://[::1]:1/v1"])
async def test_private_addresses_are_refused_when_connecting(settings, base_url: str) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    with pytest.raises(ProviderError) as caught:
        await collect(ModelTarget(ProviderConnection("p", "openai", base_url), "x"))
    assert caught.value.code == "address_refused"


async def test_models_are_listed(upstream: Upstream) -> None:
    kind = provider_kind("openai")
    assert kind is not None
    assert await kind.list_models(ProviderConnection("p", "openai", upstream.url)) == ["mock-1", "mock-2"]
    with pytest.raises(ProviderAuthentication):
        await kind.list_models(ProviderConnection("p", "openai", upstream.url, "wrong"))
    with pytest.raises(ProviderError, match="check its base_url"):
        await kind.list_models(ProviderConnection("p", "openai", upstream.url.removesuffix("/v1")))


async def test_deltas_arrive_one_by_one(target) -> None:
    deltas: list[Delta] = []
    async with aclosing(gateway.stream(ask("slow"), target("slow"))) as stream:
        async for delta in stream:
            deltas.append(delta)
            if len(deltas) == 3:
                break
    assert [delta.text for delta in deltas] == [WORDS[0]] * 3
