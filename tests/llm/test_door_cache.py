"""The exact cache: what is answered from it, what is kept, and what is dropped."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from core.aio import in_db_thread
from core.tenant import tenant_context
from llm.calls import CachePolicy
from llm.door import cache, settling
from llm.exceptions import ProviderError, ProviderRejected
from llm.gateway import gateway
from llm.models import AnswerCache
from llm.targets import Target
from llm.tasks import trim_cache
from llm.wire import Accumulator, ChatRequest, Delta, ToolCallDelta, Usage
from tenants.models import Tenant
from tests.llm.doors import HELLO, Planned, Told, ask, at, hello, listen
from tests.llm.metering import NoBudget, RecordingMeter, metered
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db
POLICY = CachePolicy(ttl_seconds=60, scope="version-1")


@pytest.fixture(autouse=True)
def meter(acme: Tenant) -> Iterator[RecordingMeter]:
    with metered(tenant_id=acme.id, cache=POLICY) as meter:
        yield meter
    meter.check()


@pytest.fixture(params=[True, False], ids=["recent", "stored"])
def forget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From this process's memory, and from the table."""
    if not request.param:
        monkeypatch.setattr("llm.door.cache.RECENT_SIZE", -1)


def rows(tenant_id: UUID) -> list[AnswerCache]:
    with tenant_context(tenant_id):
        return list(AnswerCache.objects.order_by("created_at"))


async def stored(tenant: Tenant) -> list[AnswerCache]:
    return await in_db_thread(rows, tenant.id)


async def change(tenant: Tenant, **fields: Any) -> None:
    with tenant_context(tenant.id):
        await in_db_thread(AnswerCache.objects.update, **fields)


async def kept(target: Target, request: ChatRequest | None = None) -> Told:
    told = await listen(target, request)
    await settling.drain(2)
    return told


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.usefixtures("forget")
async def test_the_same_request_is_answered_from_the_cache(
    upstream: Upstream, meter: RecordingMeter, stream: bool
) -> None:
    target = at(upstream.url, "hello")
    await ask(target, stream=stream, told=Told())
    await settling.drain(2)
    told = await listen(target)
    whole = await gateway.complete(hello(target), target)
    assert told.text == whole.text == HELLO
    assert told.completion.usage == whole.usage == Usage(7, 5, 12)
    assert 1 < len(told.deltas) <= cache.PIECES  # a stream
    assert len(upstream.calls) == 1
    paid, *hits = (call.outcome for call in meter.calls)
    assert (paid.cached, paid.reason) == (False, "asked for by name")
    for hit in hits:
        assert (hit.cached, hit.usage, hit.finish_reason) == (True, Usage(7, 5, 12), "stop")
        assert hit.reason == "cached: the same request was answered before"


async def test_a_stored_answer_is_one_small_row(upstream: Upstream, acme: Tenant) -> None:
    await kept(at(upstream.url, "one-byte"))
    (row,) = await stored(acme)
    assert len(bytes(row.key)) == 32
    assert row.size == len(bytes(row.answer)) < 400
    assert timedelta(seconds=55) < row.expires_at - timezone.now() <= timedelta(seconds=60)


async def test_only_the_very_same_is_found(upstream: Upstream, acme: Tenant, globex: Tenant) -> None:
    target = at(upstream.url, "hello")
    await kept(target, hello(target, temperature=0, top_p=1))
    await kept(target, hello(target, top_p=1, temperature=0))  # the order of keys says nothing
    assert len(upstream.calls) == 1
    await kept(target, hello(target, temperature=0.5, top_p=1))
    await kept(target, hello(target, "Hello", temperature=0, top_p=1))
    await kept(at(upstream.url, "hello", "other"), hello(target, temperature=0, top_p=1))
    with metered(tenant_id=acme.id, cache=CachePolicy(60, "version-2")):
        await kept(target, hello(target, temperature=0, top_p=1))
    with metered(tenant_id=globex.id, cache=POLICY):
        await kept(target, hello(target, temperature=0, top_p=1))
    with metered(tenant_id=acme.id):
        await kept(target, hello(target, temperature=0, top_p=1))
    assert len(upstream.calls) == 7
    assert (len(await stored(acme)), len(await stored(globex))) == (5, 1)


@pytest.mark.parametrize("changed", [{"kind": "mistral"}, {"base_url": "{}/"}, {"settings": {"headers": {"a": "b"}}}])
@pytest.mark.parametrize("routed", [True, False])
async def test_a_provider_led_elsewhere_is_asked_again(upstream: Upstream, changed: Any, routed: bool) -> None:
    target = at(upstream.url, "hello")
    fields = {name: value.format(upstream.url) if name == "base_url" else value for name, value in changed.items()}
    other = replace(target, connection=replace(target.connection, **fields))
    rekeyed = replace(target, connection=replace(target.connection, api_key="sk-another", key_id="second"))
    for each in (target, rekeyed, other, other):
        await kept(Planned([each]) if routed else each, hello(target))
    assert len(upstream.calls) == 2


@pytest.mark.parametrize("model", ["cut", "error-event", "status:400", "garbage"])
async def test_what_failed_is_not_kept(upstream: Upstream, acme: Tenant, model: str) -> None:
    for _ in range(2):
        with pytest.raises(ProviderError):
            await kept(at(upstream.url, model))
    assert (await stored(acme), upstream.seen[model]) == ([], 2)


async def test_what_its_reader_left_or_a_filter_ended_is_not_kept(upstream: Upstream, acme: Tenant) -> None:
    target = at(upstream.url, "slow")
    async with aclosing(gateway.stream(hello(target), target)) as deltas:
        await anext(deltas)
    await kept(at(upstream.url, "filtered"))
    with metered(tenant_id=acme.id, cache=POLICY, meter=RecordingMeter(pieces=2)), pytest.raises(NoBudget):
        await listen(at(upstream.url, "hello"))
    await settling.drain(2)
    assert await stored(acme) == []


async def test_an_old_answer_is_asked_for_again(upstream: Upstream, acme: Tenant) -> None:
    target = at(upstream.url, "hello")
    await kept(target)
    cache.forget_recent()
    await change(acme, expires_at=timezone.now())
    await kept(target)
    assert len(upstream.calls) == 2
    (row,) = await stored(acme)
    assert row.expires_at > timezone.now()


@pytest.mark.usefixtures("forget")
async def test_tool_calls_are_replayed(upstream: Upstream) -> None:
    target = at(upstream.url, "clever")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}}
    first = await kept(target, hello(target, tools=[tool]))
    again = await kept(target, hello(target, tools=[tool]))
    assert len(upstream.calls) == 1
    assert again.completion == first.completion
    assert again.completion.tool_calls[0].name == "f"


async def test_the_answer_of_one_call_is_shared_and_kept(upstream: Upstream, acme: Tenant) -> None:
    target = at(upstream.url, "one-byte")
    with metered(tenant_id=acme.id, cache=POLICY, join=True) as meter:
        told = await asyncio.gather(*(kept(target) for _ in range(5)))
        meter.check()
    assert {told.text for told in told} == {HELLO}
    assert (len(upstream.calls), len(await stored(acme))) == (1, 1)


async def test_what_json_cannot_express_is_refused(upstream: Upstream) -> None:
    target = at(upstream.url, "hello")
    with pytest.raises(ProviderRejected):
        await listen(target, hello(target, user=object()))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_merged_deltas_say_the_same(count: int) -> None:
    deltas = [
        Delta(text=f"{n} ", reasoning=f"r{n}", tool_calls=[ToolCallDelta(n % 2, arguments=f"{n}")])
        for n in range(count)
    ]
    deltas[0].tool_calls = [ToolCallDelta(0, "a", "f", "x"), ToolCallDelta(1, "b", "g", "y", {"sign": 1})]
    deltas.append(Delta(finish_reason="tool_calls", usage=Usage(1, 2, 3), model="m"))
    merged = cache.merged(deltas)
    assert len(merged) <= cache.PIECES
    assert whole(merged) == whole(deltas)
    assert [delta.finish_reason for delta in merged][-1:] == ["tool_calls"]


def whole(deltas: list[Delta]) -> Any:
    answer = Accumulator()
    for delta in deltas:
        answer.add(delta)
    return answer.completion()


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_the_cache_of_a_tenant_is_bounded(acme: Tenant, globex: Tenant, settings) -> None:
    """The answers used longest ago go first; nobody's else's, and those that are too old in any case."""
    settings.LLM_CACHE_MB = 1
    now = timezone.now()
    for tenant, count in ((acme, 5), (globex, 2)):
        with tenant_context(tenant.id):
            for number in range(count):
                used, size = now - timedelta(minutes=number), 400_000
                expires = now + timedelta(hours=1)
                AnswerCache.objects.create(
                    tenant_id=tenant.id, key=bytes([number]), answer=b"", size=size, used_at=used, expires_at=expires
                )
            AnswerCache.objects.create(
                tenant_id=tenant.id, key=b"old", answer=b"", size=1, used_at=now, expires_at=now - timedelta(seconds=1)
            )
    trim_cache()
    assert sorted(bytes(row.key) for row in rows(acme.id)) == [b"\x00", b"\x01"]
    assert sorted(bytes(row.key) for row in rows(globex.id)) == [b"\x00", b"\x01"]
    trim_cache()
    assert len(rows(acme.id)) == 2


async def test_a_use_is_noted_now_and_then(upstream: Upstream, acme: Tenant) -> None:
    target = at(upstream.url, "hello")
    await kept(target)
    await change(acme, used_at=timezone.now() - timedelta(hours=1))
    cache.forget_recent()
    await kept(target)
    (row,) = await stored(acme)
    assert timezone.now() - row.used_at < timedelta(minutes=1)
