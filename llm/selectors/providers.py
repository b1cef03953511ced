"""Reads of providers and their models; what belongs to another tenant is missing."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef, QuerySet

from core.errors import NotFound
from core.ids import parse_uuid
from core.kept import Kept
from llm.capabilities import forget_models, model_enabled
from llm.connections import keyed
from llm.exceptions import ModelNotFound, model_not_found
from llm.models import EndpointHealth, Provider, ProviderModel, Route
from llm.providers import provider_kind
from llm.routing.base import Keyed
from llm.routing.facts import live_facts
from llm.routing.routed import PREFIX, KeyedTarget
from llm.routing.stored import forget_routes, keys_by_provider, routed_target
from llm.targets import Target
from tenants.permissions import authorize
from tenants.principal import Principal

_connections: Kept[tuple[UUID, str], tuple[Keyed, ...]] = Kept()


@dataclass(frozen=True, slots=True)
class ModelName:
    """`name` is what callers write: `provider_slug/model`, or `route/slug`, whose `provider` is `route`."""

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
    """Every model that is known by name and not switched off, and the active routes.

    A provider without a closed list takes other models as well.
    """
    authorize(actor, "model.view")
    routes = Route.objects.filter(tenant_id=actor.tenant_id, is_active=True).order_by("slug")
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id)).order_by("slug")
    return [ModelName(f"{PREFIX}/{row.slug}", PREFIX, row.created_at) for row in routes] + [
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


def model_fault(provider: Provider, model: str) -> tuple[str, str] | None:
    """Why a model cannot be chosen: a code and a message; None when it can, or the provider alone knows.

    The provider was read by `with_models`. A list that holds only what people entered says nothing of other models.
    """
    slug = provider.slug
    if provider_kind(provider.kind) is None:
        return "provider_kind_missing", f"The provider kind '{provider.kind}' is not installed on this server."
    if model in provider.disabled_models:
        return "model_disabled", f"The model '{model}' of the provider '{slug}' is switched off."
    if model in provider_models(provider) or not (provider.models_listed or has_closed_list(provider)):
        return None
    message = f"The provider '{slug}' has no model '{model}'. Test it to read its models anew, or enter the model."
    return "unknown_model", message


def has_closed_list(provider: Provider) -> bool:
    kind = provider_kind(provider.kind)
    return kind is not None and kind.static_models is not None


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
    if not model_enabled(keys[0].target.connection, model):
        raise ModelNotFound(f"The model '{name}' is switched off.", code="model_disabled", param="model")
    asked = tuple(keyed._replace(target=replace(keyed.target, model=model)) for keyed in keys)
    return KeyedTarget(asked, live_facts) if len(asked) > 1 else asked[0].target


def _keys(tenant_id: UUID, slug: str) -> tuple[Keyed, ...]:
    """Of a provider, for any model; none when there is no such provider."""
    try:
        return _connections.get((tenant_id, slug), partial(_read_keys, tenant_id, slug))
    except Provider.DoesNotExist:
        return ()


def _read_keys(tenant_id: UUID, slug: str) -> tuple[Keyed, ...]:
    provider = Provider.objects.get(tenant_id=tenant_id, slug=slug)
    return keyed(provider, "", keys_by_provider(tenant_id, [provider.id])[provider.id])


def forget_connection(tenant_id: UUID, slug: str) -> None:
    """After a change: calls in this process see it at once."""
    _connections.forget((tenant_id, slug))
    forget_models(tenant_id, slug)
    forget_routes(tenant_id)
