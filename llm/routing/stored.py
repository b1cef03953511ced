"""Routes as they are stored, ready to choose: kept in memory for some seconds, as connections are."""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from uuid import UUID

from core.kept import Kept
from llm.capabilities import model_enabled
from llm.connections import keyed
from llm.exceptions import RouteInactive, model_not_found
from llm.models import Provider, ProviderKey, Route, RouteTarget
from llm.providers import provider_kind
from llm.routing.base import Candidate
from llm.routing.cel import prepare
from llm.routing.facts import facts_of
from llm.routing.routed import PREFIX, RoutedTarget

_routes: Kept[tuple[UUID, str], RoutedTarget] = Kept()


def routed_target(tenant_id: UUID, slug: str) -> RoutedTarget:
    """Raises ModelNotFound, or RouteInactive."""
    return _routes.get((tenant_id, slug), partial(_read, tenant_id, slug))


def _read(tenant_id: UUID, slug: str) -> RoutedTarget:
    route = Route.objects.filter(tenant_id=tenant_id, slug=slug).first()
    if route is None:
        raise model_not_found(f"{PREFIX}/{slug}")
    if not route.is_active:
        raise RouteInactive(f"The route '{slug}' is switched off.", param="model")
    return ready(route)


def forget_routes(tenant_id: UUID) -> None:
    """After a change to a route or a provider: calls in this process see it at once."""
    _routes.forget(*(key for key in _routes if key[0] == tenant_id))


def ready(route: Route) -> RoutedTarget:
    """With the targets that can be tried: two queries."""
    rows = list(targets_of(route))
    keys = keys_by_provider(route.tenant_id, [row.provider_id for row in rows])
    candidates = tuple(_candidate(row, keys) for row in rows if not why_left_out(row))
    for rule in filter(None, (candidate.rule for candidate in candidates)):
        prepare(rule)
    settings = {**route.settings, "route": str(route.id)}
    facts = facts_of(candidate.target for candidate in candidates)
    return RoutedTarget(route.slug, route.strategy, candidates, facts, settings, route.continues)


def targets_of(route: Route) -> Iterable[RouteTarget]:
    """In their order, with their providers."""
    rows = RouteTarget.objects.filter(tenant_id=route.tenant_id, route_id=route.id)
    return rows.select_related("provider").order_by("position")


def why_left_out(row: RouteTarget) -> str:
    """Why a target is never tried; "" for one that may be."""
    if not row.enabled:
        return "disabled"
    if provider_kind(row.provider.kind) is None:
        return f"the provider kind '{row.provider.kind}' is not installed on this server"
    if not model_enabled(row.provider, row.model):
        return "the model is switched off"
    return ""


def keys_by_provider(tenant_id: UUID, provider_ids: Iterable[UUID]) -> dict[UUID, list[ProviderKey]]:
    """The enabled keys besides the main ones."""
    found: dict[UUID, list[ProviderKey]] = defaultdict(list)
    rows = ProviderKey.objects.filter(tenant_id=tenant_id, provider_id__in=set(provider_ids), enabled=True)
    for key in rows.order_by("label"):
        found[key.provider_id].append(key)
    return found


def _candidate(row: RouteTarget, keys: dict[UUID, list[ProviderKey]]) -> Candidate:
    return Candidate(
        keyed(row.provider, row.model, keys.get(row.provider_id, ())),
        weight=row.weight,
        rule=row.rule,
        variant=row.variant,
        failing=row.provider.health == Provider.Health.FAILING,
    )
