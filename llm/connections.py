"""What adapters are given of a provider: its connections, one for each key, with the decrypted secret."""

from collections.abc import Iterable

from core.crypto import decrypt
from llm.models import Provider, ProviderKey
from llm.providers.base import Limits, ProviderConnection
from llm.routing.base import Keyed
from llm.targets import ModelTarget

MAIN = "main"  # what the provider's own key is called among several


def provider_connection(provider: Provider, key: ProviderKey | None = None) -> ProviderConnection:
    """With the decrypted secret: for adapters, never for answers. `key`: another than the main one."""
    holder = key or provider
    context = f"{holder.tenant_id}:{holder.id}"
    return ProviderConnection(
        slug=provider.slug,
        kind=provider.kind,
        base_url=provider.base_url,
        api_key=decrypt(bytes(holder.secret), context=context) if holder.secret else None,
        settings=provider.settings,
        tenant_id=provider.tenant_id,
        key_id=str(key.id) if key else "",
        limits=Limits(key.rpm, key.tpm, key.concurrent) if key else Limits(**provider.settings.get("limits") or {}),
    )


def keyed(provider: Provider, model: str, keys: Iterable[ProviderKey]) -> tuple[Keyed, ...]:
    """A model by each of the provider's keys. `keys` are its enabled ones; the main key counts where there is one."""
    found = [Keyed(ModelTarget(provider_connection(provider, key), model), key.label) for key in keys]
    if provider.secret is not None or not found:
        found.insert(0, Keyed(ModelTarget(provider_connection(provider), model), MAIN if found else ""))
    return tuple(found)
