"""Writes to guests: people without an account, and the credentials that their browsers keep."""

import secrets
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from core import audit
from core.errors import NotPermitted
from core.tenant import tenant_context
from tenants.authentication import GUEST, guest_signer, invalid_guest, secret_digest
from tenants.models import Guest, PublishableKey, Tenant
from tenants.principal import Principal

PREFIX = "asv_"


def guest_create(
    *,
    tenant_id: UUID,
    label: str,
    lifetime: timedelta,
    key: PublishableKey | None = None,
    address: str | None = None,
) -> tuple[Guest, str]:
    """A new guest and their secret, `asv_<tenant>_<random>`, which is shown this once: its SHA-256 is stored."""
    random = secrets.token_urlsafe(32)
    with tenant_context(tenant_id), transaction.atomic():
        guest = Guest.objects.create(
            tenant_id=tenant_id,
            label=label,
            secret_hash=secret_digest(random),
            key=key,
            address=address,
            expires_at=timezone.now() + lifetime,
        )
        after = {"label": label, "key": key.name if key else None, "expires_at": guest.expires_at.isoformat()}
        audit.record(actor=guest_principal(guest), action="guest.create", target=guest, after=after)
    return guest, f"{PREFIX}{tenant_id.hex}_{random}"


def guest_principal(guest: Guest) -> Principal:
    return Principal(guest.tenant_id, "", "guest", guest.id, guest.label, "member")


def guest_token(guest: Guest) -> str:
    """A token that lives GUEST_TOKEN_SECONDS, for the Authorization header."""
    return GUEST + guest_signer.sign(guest.id.hex)


def guest_by_secret(secret: str) -> Guest:
    """With its publishable key. It is found by the digest, so that no comparison tells by its time how much is right.

    Raises NotAuthenticated, in the same words for a wrong, an expired and a revoked one, or NotPermitted for a
    suspended tenant.
    """
    tenant_id, random = _split(secret)
    with tenant_context(tenant_id):
        guests = Guest.objects.filter(tenant_id=tenant_id, revoked_at=None, expires_at__gt=timezone.now())
        guest = guests.select_related("key", "tenant").filter(secret_hash=secret_digest(random)).first()
    if guest is None or (guest.key is not None and guest.key.revoked_at is not None):
        raise invalid_guest()
    if guest.tenant.status != Tenant.Status.ACTIVE:
        raise NotPermitted("This tenant is suspended.", code="tenant_suspended")
    return guest


def _split(secret: str) -> tuple[UUID, str]:
    tenant, _, random = secret.removeprefix(PREFIX).partition("_")
    try:
        if secret.startswith(PREFIX):
            return UUID(tenant), random
    except ValueError:
        pass
    raise invalid_guest()
