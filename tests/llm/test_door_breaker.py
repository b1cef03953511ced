"""Circuit breakers: when an endpoint is left alone, how it comes back, and what callers are told meanwhile."""

import asyncio
import time

import pytest

from core.errors import Unavailable
from core.ids import uuid7
from llm.door import health
from llm.door.breaker import Breakers, State, Transition
from llm.door.circuits import breakers
from llm.exceptions import ProviderAuthentication, ProviderError, ProviderRateLimited, ProviderRejected
from llm.gateway import gateway
from llm.targets import Endpoint, ModelTarget
from tests.llm.doors import HELLO, Planned, Told, ask, at, hello, listen, until
from tests.llm.metering import NoBudget, RecordingMeter, metered
from tests.llm.upstream import Upstream

HERE = Endpoint(None, "p", "m", "")
FAILED = ProviderError("The provider failed.")


@pytest.fixture(autouse=True)
def _soon(settings) -> None:
    settings.LLM_BREAKER_FAILURES, settings.LLM_BREAKER_SECONDS, settings.LLM_ATTEMPTS = 3, 0.15, 1


@pytest.fixture
def told() -> list[Transition]:
    return []


@pytest.fixture
def circuit(told: list[Transition]) -> Breakers:
    return Breakers(lambda endpoint, transition: told.append(transition))


def fail(circuit: Breakers, times: int = 1, error: ProviderError = FAILED) -> None:
    for _ in range(times):
        circuit.failed(HERE, error, probe=False)


def test_it_opens_after_failures_in_a_row_only(circuit: Breakers, told: list[Transition]) -> None:
    for _ in range(5):
        fail(circuit, 2)
        circuit.succeeded(HERE, probe=False)
    assert (circuit.state(HERE), told) == (State.CLOSED, [])
    fail(circuit, 3)
    assert circuit.state(HERE) is State.OPEN
    assert (told[0].state, told[0].failures, told[0].code) == (State.OPEN, 3, "provider_error")
    refusal = circuit.refusal(HERE)
    assert refusal is not None
    assert 0.1 < refusal.retry_after <= 0.15


def test_a_probe_closes_it_or_opens_it_again(circuit: Breakers, told: list[Transition]) -> None:
    fail(circuit, 3)
    time.sleep(0.16)
    assert (circuit.state(HERE), circuit.refusal(HERE)) == (State.HALF_OPEN, None)
    assert circuit.enter(HERE)
    assert circuit.refusal(HERE) is not None  # one at a time
    circuit.failed(HERE, FAILED, probe=True)
    assert circuit.state(HERE) is State.OPEN
    time.sleep(0.16)
    assert circuit.enter(HERE)
    circuit.left(HERE)  # its caller went away: the next one is the probe
    assert (circuit.refusal(HERE), circuit.enter(HERE)) == (None, True)
    circuit.succeeded(HERE, probe=True)
    assert (circuit.state(HERE), circuit.enter(HERE)) == (State.CLOSED, False)
    assert [told.state for told in told] == ["open", "half_open", "open", "half_open", "half_open", "closed"]


def test_after_its_first_token_the_probe_lets_others_in_and_one_failure_opens(circuit: Breakers) -> None:
    fail(circuit, 3)
    time.sleep(0.16)
    circuit.enter(HERE)
    circuit.heard(HERE)
    assert circuit.state(HERE) is State.CLOSED
    fail(circuit)
    assert circuit.state(HERE) is State.OPEN


def test_what_began_before_it_opened_says_nothing(circuit: Breakers) -> None:
    fail(circuit, 3)
    circuit.succeeded(HERE, probe=False)
    fail(circuit, 9)
    assert circuit.state(HERE) is State.OPEN


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ProviderRateLimited("Wait.", retry_after=7.0), 7.0),
        (ProviderRateLimited("Wait.", retry_after=86_400.0), 600.0),
        (ProviderRateLimited("Wait."), None),
        (ProviderAuthentication("No."), 0.15),
        (ProviderRejected("No."), None),
    ],
)
def test_what_opens_at_once(circuit: Breakers, error: ProviderError, seconds: float | None) -> None:
    fail(circuit, 1, error)
    refusal = circuit.refusal(HERE)
    assert (refusal.retry_after if refusal else None) == (pytest.approx(seconds, abs=0.05) if seconds else None)


def test_its_memory_is_bounded(circuit: Breakers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.bounded.OF_TENANT", 10)
    for number in range(100):
        circuit.failed(Endpoint(None, "p", str(number), ""), FAILED, probe=False)
    assert [endpoint.model for endpoint in circuit] == [str(number) for number in range(90, 100)]
    circuit.succeeded(Endpoint(None, "p", "99", ""), probe=False)
    assert len(list(circuit)) == 9


@pytest.mark.parametrize("most", [10, 1000], ids=["of_tenant", "of_all"])
def test_a_tenant_pushes_out_its_own_only(circuit: Breakers, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("llm.door.bounded.OF_TENANT", most)
    monkeypatch.setattr("llm.door.bounded.OF_ALL", 20)
    one, many = Endpoint(uuid7(), "p", "m", ""), uuid7()
    circuit.failed(one, ProviderRateLimited("Wait.", retry_after=60.0), probe=False)
    for number in range(100):
        circuit.failed(Endpoint(many, "p", str(number), ""), FAILED, probe=False)
    assert circuit.state(one) is State.OPEN
    assert len(list(circuit)) == min(most + 1, 20)


def test_of_many_tenants_the_first_is_forgotten(circuit: Breakers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.bounded.OF_ALL", 3)
    tenants = [uuid7() for _ in range(5)]
    for tenant_id in tenants:
        circuit.failed(Endpoint(tenant_id, "p", "m", ""), FAILED, probe=False)
    assert [endpoint.tenant_id for endpoint in circuit] == tenants[2:]


def test_what_is_under_way_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.bounded.OF_TENANT", 5)
    busy = health.began(HERE)
    for number in range(20):
        health.ended(health.began(HERE._replace(model=str(number))))
    assert health.in_flight(HERE) == 1
    assert len(health._records) == 5
    health.ended(busy)
    assert health.in_flight(HERE) == 0


async def test_an_open_endpoint_is_not_asked(upstream: Upstream) -> None:
    target = at(upstream.url, "heals")
    for stream in (True, False, True):
        with pytest.raises(ProviderError):
            await ask(target, stream=stream, told=Told())
    for stream in (True, False):
        with pytest.raises(Unavailable) as caught:
            await ask(target, stream=stream, told=Told())
        assert (caught.value.status, caught.value.code) == (503, "provider_circuit_open")
        assert caught.value.retry_after is not None
        assert "LLM_BREAKER_SECONDS" in caught.value.message
    assert (upstream.seen["heals"], health.is_open(target.endpoint)) == (3, True)


async def test_an_open_endpoint_is_passed_over(upstream: Upstream, meter: RecordingMeter) -> None:
    target = Planned([at(upstream.url, "heals", "first"), at(upstream.url, "hello", "second")])
    for _ in range(4):
        assert (await listen(target)).text == HELLO
    assert upstream.seen["heals"] == 3
    assert meter.calls[-1].outcome.reason == "fallback: the circuit of first/heals is open"


async def test_one_probe_at_a_time_and_then_all(upstream: Upstream) -> None:
    target = at(upstream.url, "heals")
    await asyncio.gather(*(listen(target) for _ in range(3)), return_exceptions=True)
    await asyncio.sleep(0.16)
    tried = await asyncio.gather(*(listen(target) for _ in range(50)), return_exceptions=True)
    assert upstream.seen["heals"] == 4
    assert sorted(type(error).__name__ for error in tried) == ["ProviderError"] + ["Unavailable"] * 49
    await asyncio.sleep(0.16)
    upstream.broken = False
    tried = await asyncio.gather(*(listen(target) for _ in range(50)), return_exceptions=True)
    assert [type(result).__name__ for result in tried].count("Told") == 1
    assert breakers.state(target.endpoint) is State.CLOSED
    told = await asyncio.gather(*(listen(target) for _ in range(10)))
    assert {told.text for told in told} == {HELLO}


async def test_a_cancelled_probe_makes_room_for_the_next(upstream: Upstream, settings) -> None:
    target = at(upstream.url, "silent")
    settings.LLM_FIRST_TOKEN_TIMEOUT = 0.05
    await asyncio.gather(*(listen(target) for _ in range(3)), return_exceptions=True)
    settings.LLM_FIRST_TOKEN_TIMEOUT = 60
    await asyncio.sleep(0.16)
    probe = asyncio.create_task(listen(target))
    await until(lambda: upstream.seen["silent"] == 4)
    assert breakers.refusal(target.endpoint) is not None
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert breakers.refusal(target.endpoint) is None


async def test_a_probe_without_a_budget_makes_room_for_the_next(upstream: Upstream) -> None:
    target = at(upstream.url, "heals")
    await asyncio.gather(*(listen(target) for _ in range(3)), return_exceptions=True)
    await asyncio.sleep(0.16)
    with metered(meter=RecordingMeter(calls_left=0)), pytest.raises(NoBudget):
        await listen(target)
    assert (breakers.refusal(target.endpoint), upstream.seen["heals"]) == (None, 3)


async def test_calls_wait_where_the_provider_says_for_how_long(upstream: Upstream, settings) -> None:
    """One call was told to come back in a moment; another one that comes meanwhile waits, and does not ask."""
    settings.LLM_ATTEMPTS = 3
    target = at(upstream.url, "busy:150")
    first = asyncio.create_task(listen(target))
    await until(lambda: health.is_open(target.endpoint))
    began = time.monotonic()
    told = await asyncio.gather(first, *(listen(target) for _ in range(5)))
    assert {told.text for told in told} == {HELLO}
    assert time.monotonic() - began >= 0.1
    assert upstream.seen["busy:150"] == 7


async def test_what_runs_here_has_no_breaker(scripted: ModelTarget) -> None:
    request = hello(scripted, '#script [{"fail": 500}]')
    for _ in range(9):
        with pytest.raises(ProviderError):
            await gateway.complete(request, scripted)
    assert not health.is_open(scripted.endpoint)


async def test_the_health_of_an_endpoint(upstream: Upstream) -> None:
    target = at(upstream.url, "slow", "health")
    calls = [asyncio.create_task(listen(target)) for _ in range(3)]
    await until(lambda: health.in_flight(target.endpoint) == 3)
    await until(lambda: health.first_token_ms(target.endpoint) is not None)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert health.in_flight(target.endpoint) == 0
    failing = at(upstream.url, "status:500", "health")
    for _ in range(2):
        await asyncio.gather(listen(failing), return_exceptions=True)
    assert (health.in_flight(failing.endpoint), health.first_token_ms(failing.endpoint)) == (0, None)
