"""Reads of providers and their models; what belongs to another tenant is missing."""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import parse_uuid
from llm.connections import keyed
from llm.exceptions import model_not_found
from llm.models import Provider, Route
from llm.providers import provider_kind
from llm.routes import forget_routes, keys_by_provider, routed_target
from llm.routing.base import Keyed
from llm.routing.facts import live_facts
from llm.routing.routed import PREFIX, KeyedTarget
from llm.targets import Target
from tenants.permissions import authorize
from tenants.principal import Principal

CACHE_SECONDS = 4.0  # another process sees a changed or deleted provider within 5 s
CACHE_SIZE = 2048

_connections: dict[tuple[UUID, str], tuple[float, tuple[Keyed, ...]]] = {}


@dataclass(frozen=True, slots=True)
class ModelName:
    """`name` is what callers write: `provider_slug/model`, or `route/slug`, whose `provider` is `route`."""

    name: str
    provider: str
    created_at: datetime


def provider_list(*, actor: Principal, q: str = "", kind: str = "") -> QuerySet[Provider]:
    """`q` is searched in the slug."""
    authorize(actor, "provider.view")
    rows = Provider.objects.filter(tenant_id=actor.tenant_id)
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


def model_names(actor: Principal) -> list[ModelName]:
    """Every model that is known by name, and the active routes; a provider without a closed list takes others too."""
    authorize(actor, "model.view")
    routes = Route.objects.filter(tenant_id=actor.tenant_id, is_active=True).order_by("slug")
    rows = Provider.objects.filter(tenant_id=actor.tenant_id).order_by("slug")
    return [ModelName(f"{PREFIX}/{row.slug}", PREFIX, row.created_at) for row in routes] + [
        ModelName(f"{row.slug}/{model}", row.slug, row.created_at) for row in rows for model in provider_models(row)
    ]


def provider_models(provider: Provider) -> list[str]:
    """What the kind fixes, else what the last test of the provider found."""
    kind = provider_kind(provider.kind)
    fixed = kind.static_models if kind else None
    return list(fixed if fixed is not None else provider.model_names)


def model_resolve(*, actor: Principal, name: str) -> Target:
    """What `provider_slug/model` or `route/slug` leads to; raises ModelNotFound, or RouteInactive.

    No permission is asked: `chat.run` is the caller's.
    """
    slug, _, model = name.partition("/")
    if slug == PREFIX and model:
        return routed_target(actor.tenant_id, model)
    keys = _keys(actor.tenant_id, slug) if model else ()
    if not keys:
        raise model_not_found(name)
    kind = provider_kind(keys[0].target.connection.kind)
    if kind and kind.static_models is not None and model not in kind.static_models:
        raise model_not_found(name)
    asked = tuple(keyed._replace(target=replace(keyed.target, model=model)) for keyed in keys)
    return KeyedTarget(asked, live_facts) if len(asked) > 1 else asked[0].target


def _keys(tenant_id: UUID, slug: str) -> tuple[Keyed, ...]:
    """Of a provider, for any model; none when there is no such provider."""
    now = time.monotonic()
    held = _connections.get((tenant_id, slug))
    if held is not None and held[0] > now:
        return held[1]
    provider = Provider.objects.filter(tenant_id=tenant_id, slug=slug).first()
    if provider is None:
        return ()
    keys = keyed(provider, "", keys_by_provider(tenant_id, [provider.id])[provider.id])
    if len(_connections) >= CACHE_SIZE:
        _connections.clear()
    _connections[tenant_id, slug] = (now + CACHE_SECONDS, keys)
    return keys


def forget_connection(tenant_id: UUID, slug: str) -> None:
    """After a change: calls in this process see it at once."""
    _connections.pop((tenant_id, slug), None)
    forget_routes(tenant_id)
