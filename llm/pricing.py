"""What a model of a tenant's provider costs."""

from datetime import datetime
from uuid import UUID

from llm.catalog.vendors import vendor_of
from llm.targets import ModelTarget
from usage.prices import Quote, quote


def quote_of(tenant_id: UUID, target: ModelTarget, at: datetime) -> Quote:
    """May read the tenant's own prices: call it where the database may be asked."""
    connection = target.connection
    vendor = vendor_of(connection.kind, connection.base_url)
    return quote(tenant_id=tenant_id, vendor=vendor, provider=connection.slug, model=target.model, at=at)
