"""Reads of the further keys of a provider; what belongs to another tenant is missing."""

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from llm.models import ProviderKey
from llm.selectors.providers import provider_get
from tenants.principal import Principal


def key_list(*, actor: Principal, provider: str) -> QuerySet[ProviderKey]:
    found = provider_get(actor=actor, ref=provider)
    return ProviderKey.objects.filter(tenant_id=actor.tenant_id, provider_id=found.id).select_related("provider")


def key_get(*, actor: Principal, provider: str, ref: str) -> ProviderKey:
    key = key_list(actor=actor, provider=provider).filter(id=parse_uuid(ref) or NIL).first()
    if key is None:
        raise NotFound("No key with this id.")
    return key
