"""Writes to routes: a route and its targets change together."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction

from core import audit
from core.errors import Conflict, NotFound
from core.ids import uuid7
from core.uses import refuse_if_used
from llm.models import Route, RouteTarget
from llm.routing.stored import forget_routes
from llm.selectors.routes import route_get, target_spec
from llm.validation.routes import CheckedTarget, check_route
from tenants.permissions import authorize
from tenants.principal import Principal

FIELDS = ("slug", "name", "strategy", "settings", "continues", "is_active")
TARGET_DEFAULTS = {"weight": 1, "rule": "", "variant": "", "enabled": True}
ROUTING = ("strategy", "settings", "targets")  # checked anew when one of them changes


@transaction.atomic
def route_create(
    *,
    actor: Principal,
    slug: str,
    strategy: str,
    targets: Sequence[Mapping[str, Any]],
    name: str = "",
    settings: Mapping[str, Any] | None = None,
    continues: bool = False,
    is_active: bool = True,
) -> Route:
    """`targets` as `route_validation.TargetSpec`, in their order.

    Raises InvalidRequest with every fault in `details`, Conflict when the slug is taken.
    """
    authorize(actor, "route.edit")
    values = {
        "slug": slug,
        "name": name,
        "strategy": strategy,
        "settings": dict(settings or {}),
        "continues": continues,
        "is_active": is_active,
    }
    checked = check_route(actor=actor, values={**values, "targets": targets})
    route = Route(id=uuid7(), tenant_id=actor.tenant_id, **values)
    _save(route, force_insert=True)
    _store_targets(route, checked)
    return _done(actor, route, "route.create")


@transaction.atomic
def route_update(*, actor: Principal, ref: str, changes: Mapping[str, Any]) -> Route:
    """Change some of FIELDS, or the `targets` as a whole. What changes nothing writes nothing.

    Raises as `route_create` does, NotFound, and Conflict for another slug while an agent uses the route.
    """
    authorize(actor, "route.edit")
    route = _locked(actor, ref)
    before = facts_of(route)
    after = {**before, **changes}
    after["targets"] = [{**TARGET_DEFAULTS, **target} for target in after["targets"]]
    if after == before:
        return route
    rerouted = any(after[name] != before[name] for name in ROUTING)
    checked = check_route(
        actor=actor, values=after if rerouted else {name: after[name] for name in after if name not in ROUTING}
    )
    if route.slug != after["slug"]:
        refuse_if_used("route", actor.tenant_id, route.slug)
    for name in FIELDS:
        setattr(route, name, after[name])
    _save(route)
    if rerouted:
        RouteTarget.objects.filter(tenant_id=actor.tenant_id, route_id=route.id).delete()
        _store_targets(route, checked)
    return _done(actor, route, "route.update", before=before)


@transaction.atomic
def route_delete(*, actor: Principal, ref: str) -> None:
    """Raises NotFound, and Conflict while an agent uses it."""
    authorize(actor, "route.edit")
    route = _locked(actor, ref)
    refuse_if_used("route", actor.tenant_id, route.slug)
    audit.record(actor=actor, action="route.delete", target=route, before=facts_of(route))
    transaction.on_commit(lambda: forget_routes(actor.tenant_id))
    route.delete()


def facts_of(route: Route) -> dict[str, Any]:
    """A route as callers write it."""
    return {**{name: getattr(route, name) for name in FIELDS}, "targets": [target_spec(t) for t in route.targets.all()]}


def _locked(actor: Principal, ref: str) -> Route:
    """With the targets of after the lock."""
    found = route_get(actor=actor, ref=ref)
    if not Route.objects.select_for_update().filter(tenant_id=actor.tenant_id, id=found.id).exists():
        raise NotFound("The route was deleted.")
    return route_get(actor=actor, ref=str(found.id))


def _store_targets(route: Route, checked: Sequence[CheckedTarget]) -> None:
    RouteTarget.objects.bulk_create(
        RouteTarget(
            id=uuid7(),
            tenant_id=route.tenant_id,
            route=route,
            position=position,
            provider=target.provider,
            **{**target.spec.model_dump(), "model": target.model},
        )
        for position, target in enumerate(checked)
    )


def _done(actor: Principal, route: Route, action: str, before: Mapping[str, Any] | None = None) -> Route:
    """The route as it is now, with its audit row."""
    stored = route_get(actor=actor, ref=str(route.id))
    audit.record(actor=actor, action=action, target=stored, before=before, after=facts_of(stored))
    transaction.on_commit(lambda: forget_routes(actor.tenant_id))
    return stored


def _save(route: Route, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            route.save(force_insert=force_insert)
    except IntegrityError:
        raise Conflict(f"A route with the slug '{route.slug}' exists.", code="slug_taken", param="slug") from None
