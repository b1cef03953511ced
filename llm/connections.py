"""What adapters are given of a provider: its connections, one for each key, with the decrypted secret."""

from collections.abc import Iterable
from uuid import UUID

from core.crypto import decrypt
from llm.models import KeyFields, Provider, ProviderKey
from llm.providers.base import KeyLimits, ProviderConnection
from llm.routing.base import Keyed
from llm.targets import ModelTarget

MAIN = "main"  # what the provider's own key is called among several


def provider_connection(provider: Provider, key: ProviderKey | None = None) -> ProviderConnection:
    """With the decrypted secret: for adapters, never for answers. `key`: another than the main one."""
    holder = key or provider
    return ProviderConnection(
        slug=provider.slug,
        kind=provider.kind,
        base_url=provider.base_url,
        api_key=_secret(holder.tenant_id, holder.id, holder),
        settings=provider.settings,
        tenant_id=provider.tenant_id,
        key_id=str(key.id) if key else "",
        limits=KeyLimits(holder.rpm, holder.tpm, holder.concurrent),
    )


def keyed(provider: Provider, model: str, keys: Iterable[ProviderKey]) -> tuple[Keyed, ...]:
    """A model by each of the provider's keys. `keys` are its enabled ones; the main key counts where there is one."""
    found = [Keyed(ModelTarget(provider_connection(provider, key), model), key.label) for key in keys]
    if provider.secret is not None or not found:
        found.insert(0, Keyed(ModelTarget(provider_connection(provider), model), MAIN if found else ""))
    return tuple(found)


def _secret(tenant_id: UUID, row_id: UUID, holder: KeyFields) -> str | None:
    return decrypt(bytes(holder.secret), context=f"{tenant_id}:{row_id}") if holder.secret else None
