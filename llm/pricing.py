"""What a model of a tenant's provider costs."""

from datetime import datetime
from uuid import UUID

from llm.providers import provider_kind
from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from usage.list_prices import vendor_of_url
from usage.prices import Quote, quote


def vendor_of(connection: ProviderConnection) -> str:
    """Whose list prices hold; "" where nobody's are known."""
    kind = provider_kind(connection.kind)
    if kind is None:
        return ""
    return kind.vendor or vendor_of_url(connection.base_url or kind.default_base_url)


def quote_of(tenant_id: UUID, target: ModelTarget, at: datetime) -> Quote:
    """May read the tenant's own prices: call it where the database may be asked."""
    connection = target.connection
    vendor = vendor_of(connection)
    return quote(tenant_id=tenant_id, vendor=vendor, provider=connection.slug, model=target.model, at=at)
