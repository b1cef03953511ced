"""Tells the app `usage`, which is below the providers, whose list prices count for each."""

from uuid import UUID

from llm.catalog import vendors
from llm.models import Provider


def vendor_of(tenant_id: UUID, slug: str) -> str | None:
    """As `usage.prices.quote` takes it; None without such a provider."""
    provider = Provider.objects.filter(tenant_id=tenant_id, slug=slug).first()
    return vendors.vendor_of(provider.kind, provider.base_url) if provider else None
