"""Tells the app `usage`, which is below the providers, whose list prices count for each."""

from uuid import UUID

from llm.models import Provider
from llm.providers import provider_kind
from usage.list_prices import vendor_of_url
from usage.prices import FREE

_OWN = ("local", "scripted")  # kinds that run on this machine


def vendor_of(tenant_id: UUID, slug: str) -> str | None:
    """As `usage.prices.quote` takes it; None without such a provider."""
    provider = Provider.objects.filter(tenant_id=tenant_id, slug=slug).first()
    kind = provider_kind(provider.kind) if provider else None
    if provider is None or kind is None:
        return None if provider is None else ""
    return FREE if kind.slug in _OWN else vendor_of_url(provider.base_url or kind.default_base_url)
