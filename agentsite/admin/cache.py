from django.core.cache.backends.base import default_key_func

from core.tenant import current_tenant


def tenant_key(key: str, prefix: str, version: int) -> str:
    """A cache key that no other tenant can hit."""
    return default_key_func(f"{current_tenant() or 'platform'}:{key}", prefix, version)
