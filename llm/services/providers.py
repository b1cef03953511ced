"""Writes to providers. The secret goes in and never comes out: rows keep it encrypted, audit rows do not know it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from core import audit
from core.aio import in_db_thread
from core.crypto import encrypt
from core.errors import ApplicationError, Conflict, NotFound
from core.ids import uuid7
from core.uses import refuse_if_used
from llm.connections import provider_connection
from llm.door import circuits
from llm.models import EndpointHealth, Provider, ProviderKey
from llm.providers import provider_kind
from llm.providers.base import ProviderConnection
from llm.selectors.providers import forget_connection, provider_get, with_models
from llm.services.models import models_found
from llm.validation.providers import ProviderFields, change_faults, check_provider
from tenants.permissions import authorize
from tenants.principal import Principal

TEST_SECONDS = 30.0


class ProviderChanges(TypedDict, total=False):
    """What an update changes; what is missing stays. `api_key` None or empty takes the secret away."""

    slug: str
    base_url: str
    api_key: str | None
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderTest:
    healthy: bool
    message: str
    models: list[str]
    latency_ms: int


@transaction.atomic
def provider_create(
    *,
    actor: Principal,
    slug: str,
    kind: str,
    base_url: str = "",
    api_key: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Provider:
    """Raises InvalidRequest with every fault in `details`, Conflict when the slug is taken."""
    authorize(actor, "provider.edit")
    given = ProviderFields(slug, kind, base_url, settings or {}, has_secret=bool(api_key), api_key=api_key)
    check_provider(given)
    provider = Provider(
        id=uuid7(), tenant_id=actor.tenant_id, slug=slug, kind=kind, base_url=base_url, settings=given.settings
    )
    if api_key:
        set_secret(provider, api_key)
    _save(provider, force_insert=True)
    found = provider_kind(kind)
    if found and found.static_models:
        models_found(provider, found.static_models)
    audit.record(actor=actor, action="provider.create", target=provider, after=_facts(provider))
    return provider_get(actor=actor, ref=str(provider.id))


@transaction.atomic
def provider_update(*, actor: Principal, ref: str, changes: ProviderChanges, kind: str | None = None) -> Provider:
    """Raises as `provider_create` does, NotFound, and Conflict for another slug while an agent or a route uses it.

    The kind cannot change: when given, it is compared.

    What changes nothing writes nothing. Health is unknown after a change. A stored secret does not follow the provider
    to another host.
    """
    authorize(actor, "provider.edit")
    provider = _locked(actor, ref)
    before, old_slug = _facts(provider), provider.slug
    faults = change_faults(provider, base_url=changes.get("base_url"), kind=kind, new_key="api_key" in changes)
    if not faults and "api_key" not in changes and all(before[name] == value for name, value in changes.items()):
        return provider
    _apply(provider, changes)
    check_provider(_fields(provider, changes.get("api_key")), faults)
    if provider.slug != old_slug:
        refuse_if_used("provider", actor.tenant_id, old_slug)
    _save(provider)
    for slug in {old_slug, provider.slug}:
        _forget_on_commit(provider, slug)
    if provider.slug != old_slug:
        _endpoints(provider.tenant_id, old_slug).delete()
    _let_through(provider)
    audit.record(actor=actor, action="provider.update", target=provider, before=before, after=_facts(provider))
    return provider


@transaction.atomic
def provider_delete(*, actor: Principal, ref: str) -> None:
    """Raises NotFound, and Conflict while an agent or a route uses it."""
    authorize(actor, "provider.edit")
    provider = _locked(actor, ref)
    refuse_if_used("provider", actor.tenant_id, provider.slug)
    audit.record(actor=actor, action="provider.delete", target=provider, before=_facts(provider))
    _forget_on_commit(provider, provider.slug)
    _endpoints(provider.tenant_id, provider.slug).delete()
    provider.delete()


async def provider_test(*, actor: Principal, ref: str, watching: bool = False) -> ProviderTest:
    """Ask the provider for its models, and keep what came of it. A provider that fails is a result, not an error.

    `watching`: nobody asked, so the audit is told only when the health has changed. No database connection is held
    while the provider answers.
    """
    provider, connection = await in_db_thread(_begin_test, actor, ref)
    started = time.monotonic()
    healthy, message, models = await _ask(connection)
    result = ProviderTest(healthy, message, models, int((time.monotonic() - started) * 1000))
    await in_db_thread(_end_test, actor, provider, result, watching)
    return result


@transaction.atomic
def provider_reset(*, actor: Principal, ref: str, model: str | None = None, key: str | None = None) -> int:
    """Let calls through again to the provider's endpoints that are left alone, or to those of one model or key.

    Their number is returned; other processes follow within 5 s. Raises NotFound.
    """
    authorize(actor, "provider.reset")
    provider = provider_get(actor=actor, ref=ref)
    closed = _let_through(provider, **{name: value for name, value in (("model", model), ("key", key)) if value})
    if closed:
        audit.record(actor=actor, action="provider.reset", target=provider, after={"endpoints": closed})
    return len(closed)


def _let_through(provider: Provider, **wanted: str) -> list[str]:
    """The names of the endpoints that were left alone, or of those `wanted`."""
    tenant_id, slug = provider.tenant_id, provider.slug
    rows = _endpoints(tenant_id, slug).filter(**wanted).exclude(state=EndpointHealth.State.CLOSED)
    closed = [f"{row} {row.key}".strip() for row in rows.select_for_update()]
    if closed:
        rows.update(state=EndpointHealth.State.CLOSED, failures=0, updated_at=timezone.now())
    transaction.on_commit(lambda: circuits.close(tenant_id, slug, **wanted))
    return closed


def _endpoints(tenant_id: UUID, slug: str) -> QuerySet[EndpointHealth]:
    return EndpointHealth.objects.filter(tenant_id=tenant_id, provider=slug)


def _begin_test(actor: Principal, ref: str) -> tuple[Provider, ProviderConnection]:
    authorize(actor, "provider.test")
    provider = provider_get(actor=actor, ref=ref)
    return provider, provider_connection(provider)


async def _ask(connection: ProviderConnection) -> tuple[bool, str, list[str]]:
    kind = provider_kind(connection.kind)
    if kind is None:
        return False, f"The provider kind '{connection.kind}' is not installed on this server.", []
    try:
        async with asyncio.timeout(TEST_SECONDS):
            models = await kind.list_models(connection)
    except ApplicationError as error:
        return False, error.message, []
    except TimeoutError:
        return False, f"The provider did not answer within {TEST_SECONDS:.0f} seconds.", []
    return True, f"The provider answers; it lists {len(models)} model{'' if len(models) == 1 else 's'}.", models


@transaction.atomic
def _end_test(actor: Principal, provider: Provider, result: ProviderTest, watching: bool = False) -> None:
    """Raises NotFound when the provider was deleted meanwhile."""
    before = provider.health
    provider.health = Provider.Health.HEALTHY if result.healthy else Provider.Health.FAILING
    provider.health_message = result.message[:300]
    provider.health_checked_at = timezone.now()
    fields = {"health": provider.health, "health_message": provider.health_message}
    rows = Provider.objects.filter(tenant_id=actor.tenant_id, id=provider.id)
    if not rows.update(**fields, health_checked_at=provider.health_checked_at):
        raise NotFound("The provider was deleted.")
    if result.healthy:
        _let_through(provider)
    found = models_found(provider, result.models) if result.healthy else {}
    if provider.health != before or not watching or any(found.values()):
        audit.record(actor=actor, action="provider.test", target=provider, after={**fields, **found})
    if provider.health != before:
        _forget_on_commit(provider, provider.slug)


def _locked(actor: Principal, ref: str) -> Provider:
    found = provider_get(actor=actor, ref=ref)
    locked = with_models(Provider.objects.select_for_update().filter(tenant_id=actor.tenant_id))
    provider = locked.filter(id=found.id).first()
    if provider is None:
        raise NotFound("The provider was deleted.")
    return provider


def _apply(provider: Provider, changes: ProviderChanges) -> None:
    provider.slug = changes.get("slug", provider.slug)
    provider.base_url = changes.get("base_url", provider.base_url)
    provider.settings = changes.get("settings", provider.settings)
    if "api_key" in changes:
        set_secret(provider, changes["api_key"])
    provider.health, provider.health_message = Provider.Health.UNKNOWN, ""


def set_secret(holder: Provider | ProviderKey, api_key: str | None) -> None:
    """The last four are shown of keys that are long enough to stay secret without them."""
    context = f"{holder.tenant_id}:{holder.id}"
    holder.secret = encrypt(api_key, context=context) if api_key else None
    holder.secret_last4 = api_key[-4:] if api_key and len(api_key) >= 12 else ""


def _fields(provider: Provider, api_key: str | None) -> ProviderFields:
    return ProviderFields(
        provider.slug,
        provider.kind,
        provider.base_url,
        provider.settings,
        has_secret=provider.secret is not None,
        api_key=api_key,
    )


def _save(provider: Provider, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            provider.save(force_insert=force_insert)
    except IntegrityError:
        message = f"A provider with the slug '{provider.slug}' exists."
        raise Conflict(message, code="slug_taken", param="slug") from None


def _forget_on_commit(provider: Provider, slug: str) -> None:
    tenant_id = provider.tenant_id
    transaction.on_commit(lambda: forget_connection(tenant_id, slug))


def _facts(provider: Provider) -> dict[str, Any]:
    return {
        "slug": provider.slug,
        "kind": provider.kind,
        "base_url": provider.base_url,
        "settings": provider.settings,
        "api_key_last4": provider.secret_last4,
        "has_api_key": provider.secret is not None,
    }
