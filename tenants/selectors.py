"""Reads of members and API keys; what belongs to another tenant is missing."""

from django.db.models import QuerySet

from core.errors import NotFound
from core.ids import NIL, parse_uuid
from tenants.models import ApiKey, Membership, Tenant
from tenants.permissions import authorize
from tenants.principal import Principal


def tenant_get(*, actor: Principal) -> Tenant:
    return Tenant.objects.get(id=actor.tenant_id)


def member_list(*, actor: Principal) -> QuerySet[Membership]:
    authorize(actor, "member.view")
    return Membership.objects.filter(tenant_id=actor.tenant_id).select_related("user")


def member_get(*, actor: Principal, ref: str) -> Membership:
    member = member_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if member is None:
        raise NotFound("No member with this id.")
    return member


def api_key_list(*, actor: Principal) -> QuerySet[ApiKey]:
    authorize(actor, "api_key.view")
    return ApiKey.objects.filter(tenant_id=actor.tenant_id)


def api_key_get(*, actor: Principal, ref: str) -> ApiKey:
    key = api_key_list(actor=actor).filter(id=parse_uuid(ref) or NIL).first()
    if key is None:
        raise NotFound("No API key with this id.")
    return key
