"""Models and routes that toolsets name and the tenant does not have."""

from collections.abc import Iterable

from llm.models import Provider, Route
from llm.routing.routed import PREFIX as ROUTE
from llm.selectors.providers import model_fault, with_models
from tenants.principal import Principal


def models_missing(actor: Principal, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Code and message by name. At most two queries; no permission is asked."""
    wanted = {name: name.partition("/")[::2] for name in names if "/" in name}
    slugs = {slug for slug, _ in wanted.values()}
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id, slug__in=slugs - {ROUTE}))
    providers = {provider.slug: provider for provider in rows}
    asked = [model for slug, model in wanted.values() if slug == ROUTE]
    routes = set(Route.objects.filter(tenant_id=actor.tenant_id, slug__in=asked).values_list("slug", flat=True))
    missing = {}
    for name, (slug, model) in wanted.items():
        if slug == ROUTE:
            found = None if model in routes else ("unknown_route", f"There is no route '{model}'.")
        elif slug not in providers:
            found = ("unknown_provider", f"There is no provider '{slug}'.")
        else:
            found = model_fault(providers[slug], model)
        if found is not None:
            missing[name] = found
    return missing
