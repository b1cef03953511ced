"""Reads of routes; what belongs to another tenant is missing."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet

from core.errors import NotFound
from core.ids import parse_uuid
from llm.models import Route, RouteTarget
from llm.routing.features import Features
from llm.routing.stored import ready, why_left_out
from llm.targets import Leg
from llm.wire import ChatRequest
from tenants.permissions import authorize
from tenants.principal import Principal


@dataclass(frozen=True, slots=True)
class Preview:
    """Where a request would go: the models to try in this order, and those that never are, with the reason."""

    route: Route
    legs: list[Leg]
    left_out: list[tuple[str, str]]


def route_list(*, actor: Principal, q: str = "", strategy: str = "") -> QuerySet[Route]:
    """With their targets; `q` searches slug and name."""
    authorize(actor, "route.view")
    targets = RouteTarget.objects.filter(tenant_id=actor.tenant_id).select_related("provider").order_by("position")
    rows = Route.objects.filter(tenant_id=actor.tenant_id).prefetch_related(Prefetch("targets", targets))
    if q:
        rows = rows.filter(Q(slug__icontains=q) | Q(name__icontains=q))
    return rows.filter(strategy=strategy) if strategy else rows


def route_get(*, actor: Principal, ref: str) -> Route:
    """By id or slug, with its targets."""
    rows = route_list(actor=actor)
    route_id = parse_uuid(ref)
    route = rows.filter(id=route_id).first() if route_id else rows.filter(slug=ref).first()
    if route is None:
        raise NotFound("No route with this id or slug.")
    return route


def target_spec(target: RouteTarget) -> dict[str, Any]:
    """A target as callers write it."""
    return {
        "model": f"{target.provider.slug}/{target.model}",
        "weight": target.weight,
        "rule": target.rule,
        "variant": target.variant,
        "enabled": target.enabled,
    }


def route_preview(
    *, actor: Principal, ref: str, request: ChatRequest, sticky: str = "", metadata: dict[str, Any] | None = None
) -> Preview:
    """No provider is asked. Nothing to try is a preview without legs."""
    route = route_get(actor=actor, ref=ref)
    legs = ready(route).legs(Features(request, sticky=sticky, metadata=metadata))
    tried = {leg.target.name for leg in legs}
    rows = [(str(row), why_left_out(row)) for row in route.targets.all()]
    left_out = [(name, why or "its rule is not met") for name, why in rows if why or name not in tried]
    return Preview(route, legs, left_out)


def routes_of_provider(tenant_id: UUID, slug: str) -> list[str]:
    """The routes that have a target at the provider, switched off ones included."""
    rows = Route.objects.filter(tenant_id=tenant_id, targets__provider__slug=slug)
    return [f"the route {route}" for route in rows.order_by("slug").values_list("slug", flat=True).distinct()]
