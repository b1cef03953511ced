"""Reads of providers and their models; what belongs to another tenant is missing."""

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef, QuerySet

from core.crypto import decrypt
from core.errors import NotFound
from core.ids import parse_uuid
from llm.capabilities import forget_models, model_enabled
from llm.exceptions import ModelNotFound, model_not_found
from llm.models import EndpointHealth, Provider, ProviderModel
from llm.providers import provider_kind
from llm.providers.base import Limits, ProviderConnection
from llm.targets import ModelTarget
from tenants.permissions import authorize
from tenants.principal import Principal

CACHE_SECONDS = 4.0  # another process sees a changed or deleted provider within 5 s
CACHE_SIZE = 2048

_connections: dict[tuple[UUID, str], tuple[float, ProviderConnection]] = {}


@dataclass(frozen=True, slots=True)
class ModelName:
    """`name` is what callers write: `provider_slug/model`."""

    name: str
    provider: str
    created_at: datetime


def provider_list(*, actor: Principal, q: str = "", kind: str = "") -> QuerySet[Provider]:
    """`q` is searched in the slug."""
    authorize(actor, "provider.view")
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id))
    if q:
        rows = rows.filter(slug__icontains=q)
    return rows.filter(kind=kind) if kind else rows


def provider_get(*, actor: Principal, ref: str) -> Provider:
    """By id or slug."""
    rows = provider_list(actor=actor)
    provider_id = parse_uuid(ref)
    provider = rows.filter(id=provider_id).first() if provider_id else rows.filter(slug=ref).first()
    if provider is None:
        raise NotFound("No provider with this id or slug.")
    return provider


def endpoint_health(*, actor: Principal, ref: str) -> list[EndpointHealth]:
    """What the breakers found of the provider's models, of those that ever failed. Raises NotFound."""
    provider = provider_get(actor=actor, ref=ref)
    return list(EndpointHealth.objects.filter(tenant_id=actor.tenant_id, provider=provider.slug))


def with_models(rows: QuerySet[Provider]) -> QuerySet[Provider]:
    """The same rows with the names of their models, in the same query."""
    of_provider = ProviderModel.objects.filter(tenant_id=OuterRef("tenant_id"), provider_id=OuterRef("id"))
    names = of_provider.order_by("name").values("name")
    return rows.annotate(  # type: ignore[no-redef]  # what Provider declares is filled here
        enabled_models=ArraySubquery(names.filter(enabled=True)),
        disabled_models=ArraySubquery(names.filter(enabled=False)),
        models_listed=Exists(of_provider.filter(entered=False)),
    )


def model_names(actor: Principal) -> list[ModelName]:
    """Every model that is known by name and not switched off; a provider without a closed list takes others as well."""
    authorize(actor, "model.view")
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id)).order_by("slug")
    return [
        ModelName(f"{row.slug}/{model}", row.slug, row.created_at) for row in rows for model in provider_models(row)
    ]


def provider_models(provider: Provider) -> list[str]:
    """What the kind fixes, else what was entered and what the last test of the provider found; none switched off.

    The provider was read by `with_models`.
    """
    kind = provider_kind(provider.kind)
    fixed = kind.static_models if kind else None
    known = fixed if fixed is not None else provider.enabled_models
    return [name for name in known if name not in provider.disabled_models]


def has_closed_list(provider: Provider) -> bool:
    kind = provider_kind(provider.kind)
    return kind is not None and kind.static_models is not None


def model_resolve(*, actor: Principal, name: str) -> ModelTarget:
    """The target of `provider_slug/model`; raises ModelNotFound. No permission is asked: `chat.run` is the caller's."""
    slug, _, model = name.partition("/")
    connection = _connection(actor.tenant_id, slug) if model else None
    if connection is None:
        raise model_not_found(name)
    kind = provider_kind(connection.kind)
    if kind and kind.static_models is not None and model not in kind.static_models:
        raise model_not_found(name)
    if not model_enabled(connection, model):
        raise ModelNotFound(f"The model '{name}' is switched off.", code="model_disabled", param="model")
    return ModelTarget(connection, model)


def _connection(tenant_id: UUID, slug: str) -> ProviderConnection | None:
    now = time.monotonic()
    held = _connections.get((tenant_id, slug))
    if held is not None and held[0] > now:
        return held[1]
    provider = Provider.objects.filter(tenant_id=tenant_id, slug=slug).first()
    if provider is None:
        return None
    connection = provider_connection(provider)
    if len(_connections) >= CACHE_SIZE:
        _connections.clear()
    _connections[tenant_id, slug] = (now + CACHE_SECONDS, connection)
    return connection


def provider_connection(provider: Provider) -> ProviderConnection:
    """With the decrypted secret: for adapters, never for answers."""
    context = f"{provider.tenant_id}:{provider.id}"
    return ProviderConnection(
        slug=provider.slug,
        kind=provider.kind,
        base_url=provider.base_url,
        api_key=decrypt(bytes(provider.secret), context=context) if provider.secret else None,
        settings=provider.settings,
        tenant_id=provider.tenant_id,
        limits=Limits(**provider.settings.get("limits") or {}),
    )


def forget_connection(tenant_id: UUID, slug: str) -> None:
    """After a change: calls in this process see it at once."""
    _connections.pop((tenant_id, slug), None)
    forget_models(tenant_id, slug)
