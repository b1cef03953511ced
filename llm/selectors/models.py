"""Reads of the models of a provider; what belongs to another tenant is missing."""

from typing import Any

from django.db.models import QuerySet, Subquery

from core.errors import NotFound
from llm.models import Provider, ProviderModel
from llm.selectors.providers import provider_get, with_models
from tenants.principal import Principal


def model_list(*, actor: Principal, ref: str, q: str = "") -> QuerySet[ProviderModel]:
    """With their provider; `q` is searched in the name. Raises NotFound for the provider."""
    provider = provider_get(actor=actor, ref=ref)
    rows = ProviderModel.objects.filter(tenant_id=actor.tenant_id, provider_id=provider.id)
    return (rows.filter(name__icontains=q) if q else rows).select_related("provider")


def model_get(*, actor: Principal, ref: str, name: str) -> ProviderModel:
    model = model_list(actor=actor, ref=ref).filter(name=name).first()
    if model is None:
        message = f"The provider '{ref}' has no model '{name}'. Test the provider to read its models, or enter it."
        raise NotFound(message)
    return model


def provider_of_model(*, actor: Principal, slug: str, model: str) -> tuple[Provider, dict[str, Any]] | None:
    """A provider and what the tenant says of one of its models, by one query. No permission is asked."""
    said = ProviderModel.objects.filter(tenant_id=actor.tenant_id, provider__slug=slug, name=model)
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id, slug=slug))
    provider = rows.annotate(overrides=Subquery(said.values("overrides"))).first()
    return (provider, provider.overrides or {}) if provider else None
