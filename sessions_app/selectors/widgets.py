"""Reads of publishable keys."""

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from tenants.models import PublishableKey
from tenants.permissions import authorize
from tenants.principal import Principal


def publishable_key_list(*, actor: Principal) -> QuerySet[PublishableKey]:
    authorize(actor, "api_key.view")
    return PublishableKey.objects.filter(tenant_id=actor.tenant_id)


def publishable_key_get(*, actor: Principal, ref: str) -> PublishableKey:
    key = publishable_key_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if key is None:
        raise NotFound("No publishable key with this id.")
    return key
