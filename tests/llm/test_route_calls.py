"""Routes and further keys through the gateway: who is asked, and what the meter is told of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from core.aio import in_db_thread
from llm.calls import call_context
from llm.door import health
from llm.routing import stored
from llm.selectors import providers as selectors
from llm.selectors.providers import model_resolve
from llm.services.keys import key_create
from llm.services.providers import provider_create, provider_update
from llm.services.routes import route_create
from llm.targets import Target
from tenants.principal import Principal
from tests.conftest import Actor
from tests.llm.doors import hello, listen
from tests.llm.metering import RecordingMeter, metered
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forget(in_acme: Any) -> Iterator[None]:
    yield
    stored._routes.clear()
    selectors._connections.clear()
    health._records.clear()


@pytest.fixture
def resolve(owner: Actor, upstream: Upstream) -> Any:
    actor = owner.principal
    provider_create(actor=actor, slug="bad", kind="openai", base_url=f"{upstream.url}", api_key="wrong")
    provider_create(actor=actor, slug="good", kind="openai", base_url=upstream.url, api_key="sk-test-key")

    def made(name: str, route: Any) -> Target:
        if route:
            route_create(actor=actor, slug="best", **route)
        return model_resolve(actor=actor, name=name)

    async def resolved(name: str = "route/best", **route: Any) -> Target:
        return await in_db_thread(made, name, route)

    return resolved


TWO = [{"model": "bad/status:500"}, {"model": "good/clever"}]


async def test_the_next_target_answers_and_the_meter_hears_why(resolve: Any, meter: RecordingMeter) -> None:
    target = await resolve(strategy="fallback", targets=TWO)
    assert (await listen(target)).text
    *failed, last = meter.calls
    assert {call.name for call in failed} == {"bad/status:500"}
    assert last.name == "good/clever"
    assert last.request.model == "clever"
    assert (last.outcome.route, last.outcome.reason) == (
        "best",
        "fallback: bad/status:500 failed with provider_error",
    )
    assert last.outcome.error is None


async def test_a_target_whose_breaker_is_open_comes_last(resolve: Any, meter: RecordingMeter, settings: Any) -> None:
    settings.LLM_BREAKER_FAILURES, settings.LLM_ATTEMPTS = 2, 1
    target = await resolve(strategy="fallback", targets=TWO)
    for _ in range(3):
        assert (await listen(target)).text
    assert [call.name for call in meter.calls] == ["bad/status:500", "good/clever"] * 2 + ["good/clever"]


async def test_the_sooner_target_is_learned(resolve: Any) -> None:
    both = [{"model": "good/clever"}, {"model": "bad/clever"}]
    target = await resolve(strategy="lowest_latency", settings={"explore": 1.0}, targets=both)
    for _ in range(2):
        await listen(target)
    reasons = [leg.reason for leg in target.plan(hello(target), call_context()).legs]
    assert all("first token in about" in reason for reason in reasons)


async def test_each_person_asks_their_variant(resolve: Any) -> None:
    variants = [{"model": "good/clever", "variant": "A"}, {"model": "bad/clever", "variant": "B"}]
    target = await resolve(strategy="ab_test", targets=variants)
    asked: Counter[str] = Counter()
    for number in range(12):
        with metered(sticky=f"person-{number}") as meter:
            for _ in range(2):
                await listen(target)
        assert len({call.name for call in meter.calls}) == 1
        asked[meter.calls[0].name] += 1
    assert len(asked) == 2


def limited_keys(actor: Principal) -> None:
    """Instead of the main key."""
    for label, rpm in (("small", 4), ("large", 16)):
        key_create(actor=actor, provider="good", label=label, api_key=f"sk-{label}-key", rpm=rpm)
    provider_update(actor=actor, ref="good", changes={"api_key": None})


async def test_calls_go_to_the_key_with_most_room(resolve: Any, owner: Actor, meter: RecordingMeter) -> None:
    await in_db_thread(limited_keys, owner.principal)
    target = await resolve("good/clever")
    for _ in range(10):
        await listen(target)
    keys = Counter(call.target.connection.api_key for call in meter.calls)
    assert keys == {"sk-large-key": 8, "sk-small-key": 2}
