"""Whose list prices count for a tenant's provider: told by who knows the providers, which are above this app."""

from collections.abc import Callable
from uuid import UUID

from core.errors import InvalidRequest

VendorOf = Callable[[UUID, str], str | None]
_vendor_of: VendorOf | None = None


def set_vendors(vendor_of: VendorOf) -> None:
    """`vendor_of(tenant_id, provider_slug)` answers what `usage.prices.quote` takes; None without such a provider."""
    global _vendor_of
    _vendor_of = vendor_of


def vendor_of(tenant_id: UUID, provider: str) -> str:
    """Raises InvalidRequest for a provider that the tenant does not have."""
    if _vendor_of is None:
        raise RuntimeError("Nobody has told who the vendors of providers are: see set_vendors.")
    vendor = _vendor_of(tenant_id, provider)
    if vendor is None:
        raise InvalidRequest(f"There is no provider '{provider}'.", code="unknown_provider", param="provider")
    return vendor
