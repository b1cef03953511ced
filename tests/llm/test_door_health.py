"""What operators and other processes see of the breakers, and how an endpoint is asked again by hand."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from audit.models import AuditEvent
from core.aio import in_db_thread
from core.tenant import tenant_context
from llm.door import circuits, health
from llm.models import EndpointHealth
from llm.selectors.providers import model_resolve
from llm.services.providers import provider_create
from llm.targets import ModelTarget
from llm.tasks import trim_health
from tenants.models import Tenant
from tests.admin.conftest import olga as olga
from tests.admin.conftest import page, post, text_of
from tests.admin.conftest import vera as vera
from tests.conftest import Actor, make_actor
from tests.llm.doors import HELLO, listen
from tests.llm.upstream import Upstream

pytestmark = pytest.mark.django_db
KEY = "sk-test-key-1234"


@pytest.fixture(autouse=True)
def _soon(settings) -> None:
    settings.LLM_BREAKER_FAILURES, settings.LLM_ATTEMPTS = 2, 1


@pytest.fixture
def target(owner: Actor, in_acme: Tenant, upstream: Upstream) -> ModelTarget:
    provider_create(actor=owner.principal, slug="main", kind="openai", base_url=upstream.url, api_key=KEY)
    return model_resolve(actor=owner.principal, name="main/heals")


async def fail(target: ModelTarget, times: int = 2) -> None:
    for _ in range(times):
        with pytest.raises(Exception, match="provider failed"):
            await listen(target)
    await circuits.written()


def row(tenant: Tenant) -> EndpointHealth:
    with tenant_context(tenant.id):
        return EndpointHealth.objects.get()


async def seen(tenant: Tenant) -> EndpointHealth:
    return await in_db_thread(row, tenant)


async def as_another_process(target: ModelTarget) -> bool:
    """What it knows at its next call."""
    circuits.forget_all()
    await circuits.learn(target.endpoint.tenant_id)
    return health.is_open(target.endpoint)


async def test_transitions_are_stored(target: ModelTarget, acme: Tenant, upstream: Upstream, settings) -> None:
    settings.LLM_BREAKER_SECONDS = 0.1
    await fail(target, 1)
    with pytest.raises(EndpointHealth.DoesNotExist):
        await seen(acme)
    await fail(target, 1)
    stored = await seen(acme)
    assert (stored.provider, stored.model, stored.key) == ("main", "heals", "")
    assert (stored.state, stored.failures, stored.last_error_code) == ("open", 2, "provider_error")
    assert 0.05 < (stored.until - stored.opened_at).total_seconds() < 0.2
    upstream.broken = False
    await asyncio.sleep(0.15)
    assert (await seen(acme)).state_now == "half_open"
    assert (await listen(target)).text == HELLO
    await circuits.written()
    assert ((await seen(acme)).state, (await seen(acme)).id) == ("closed", stored.id)


async def test_other_processes_learn_of_it(target: ModelTarget, acme: Tenant) -> None:
    await fail(target)
    assert await as_another_process(target)
    with tenant_context(acme.id):
        await in_db_thread(EndpointHealth.objects.update, state="closed", updated_at=timezone.now())
    await circuits.learn(acme.id)
    assert health.is_open(target.endpoint)  # within LEARN_SECONDS it does not ask again
    circuits._learned.clear()
    await circuits.learn(acme.id)
    assert not health.is_open(target.endpoint)
    assert circuits.LEARN_SECONDS < 5


async def test_a_call_takes_over_what_others_found(target: ModelTarget, upstream: Upstream) -> None:
    await fail(target)
    circuits.forget_all()
    with pytest.raises(Exception, match="left alone"):
        await listen(target)
    assert upstream.seen["heals"] == 2


async def test_news_are_read_within_bounds(target: ModelTarget, acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.door.circuits.OF_TENANT", 3)
    await in_db_thread(many_rows, acme, 10)
    circuits.forget_all()
    await circuits.learn(acme.id)
    assert sorted(endpoint.model for endpoint in circuits.breakers) == ["0", "1", "2"]


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_old_rows_and_too_many_are_forgotten(acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.tasks.OF_TENANT", 3)
    many_rows(acme, 10)
    many_rows(globex, 1)
    many_rows(globex, 1, state="closed", age=timedelta(hours=25), provider="works")
    many_rows(globex, 1, state="closed", age=timedelta(hours=23), provider="worked-lately")
    many_rows(globex, 1, age=timedelta(days=8), provider="left")
    trim_health()
    assert kept(acme) == [("p", "0"), ("p", "1"), ("p", "2")]
    assert kept(globex) == [("p", "0"), ("worked-lately", "0")]


def many_rows(
    tenant: Tenant, count: int, *, state: str = "open", age: timedelta = timedelta(), provider: str = "p"
) -> None:
    """Each heard of a second before the one before."""
    now = timezone.now()
    with tenant_context(tenant.id):
        for number in range(count):
            EndpointHealth.objects.create(
                tenant_id=tenant.id,
                provider=provider,
                model=str(number),
                state=state,
                failures=1,
                opened_at=now,
                until=now + timedelta(minutes=5),
                updated_at=now - age - timedelta(seconds=number),
            )


def kept(tenant: Tenant) -> list[tuple[str, str]]:
    with tenant_context(tenant.id):
        return list(EndpointHealth.objects.order_by("provider", "model").values_list("provider", "model"))


def test_an_operator_asks_again(
    owner: Actor,
    viewer: Actor,
    stranger: Actor,
    target: ModelTarget,
    acme: Tenant,
    django_capture_on_commit_callbacks: Any,
) -> None:
    operator = make_actor(acme, "operator")
    play(fail(target))
    (seen,) = viewer.get("providers/main/health").json()["data"]
    assert (seen["model"], seen["state"], seen["failures"], seen["last_error_code"]) == (
        "heals",
        "open",
        2,
        "provider_error",
    )
    assert KEY not in str(seen)
    for who, status in ((viewer, 403), (make_actor(acme, "member"), 403), (stranger, 404)):
        assert who.post("providers/main/health/reset", {}).status_code == status
    assert (stranger.get("providers/main/health").status_code, row(acme).state) == (404, "open")
    assert operator.post("providers/main/health/reset", {"model": "another"}).json() == {"closed": 0}
    with django_capture_on_commit_callbacks(execute=True):
        assert operator.post("providers/main/health/reset", {"model": "heals"}).json() == {"closed": 1}
    assert (row(acme).state, health.is_open(target.endpoint)) == ("closed", False)
    event = AuditEvent.objects.get(action="provider.reset")
    assert (event.after, event.actor_label) == ({"endpoints": ["main/heals"]}, "operator of acme")


@pytest.mark.parametrize("changes", [{"api_key": "sk-another-key-1234"}, {"settings": {"limits": {"rpm": 5}}}])
def test_a_changed_provider_is_asked_again(
    owner: Actor, target: ModelTarget, acme: Tenant, changes: Any, django_capture_on_commit_callbacks: Any
) -> None:
    play(fail(target))
    with django_capture_on_commit_callbacks(execute=True):
        assert owner.patch("providers/main", changes).status_code == 200
    assert (row(acme).state, health.is_open(target.endpoint)) == ("closed", False)


def test_a_deleted_provider_leaves_nothing(owner: Actor, target: ModelTarget) -> None:
    play(fail(target))
    assert owner.delete("providers/main").status_code == 204
    assert not EndpointHealth.objects.exists()


def test_the_limits_of_a_provider_are_its_settings(owner: Actor, target: ModelTarget) -> None:
    assert owner.patch("providers/main", {"settings": {"limits": {"rpm": 5, "concurrent": 2}}}).status_code == 200
    refused = owner.patch("providers/main", {"settings": {"limits": {"rpm": 0}}})
    assert refused.json()["error"]["details"][0]["path"] == "settings.limits.rpm"


def test_the_admin_shows_it_and_asks_again(olga: Any, vera: Any, target: ModelTarget, acme: Tenant) -> None:
    play(fail(target))
    listed = text_of(page(vera, "llm/endpointhealth/"))
    assert "main/heals" in listed
    assert "Left alone" in listed
    provider = page(olga, f"llm/endpointhealth/{row(acme).id}/change/")
    assert provider.status_code == 302
    path = provider["Location"].partition("/admin/")[2].replace("change/", "ask_again/")
    assert "Ask the failing models again" in text_of(page(olga, path))
    assert page(vera, path).status_code == 403
    assert row(acme).state == "open"
    post(olga, path, {"_form_submitted": "on"})
    assert row(acme).state == "closed"


def play(work: Any) -> None:
    async def played() -> None:
        await work

    async_to_sync(played)()
