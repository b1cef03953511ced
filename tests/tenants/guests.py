"""Guests for tests: their rows, and clients that speak as they do."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tenants.authentication import authenticate_guest
from tenants.models import PublishableKey, Tenant
from tenants.services.guests import guest_create, guest_token
from tests.conftest import Actor

SHOP = "https://shop.example"


def make_key(tenant: Tenant, agent: str = "helper", origins: Iterable[str] = (SHOP,), **fields: Any) -> PublishableKey:
    """In the tenant's context."""
    return PublishableKey.objects.create(
        tenant=tenant,
        name="Shop",
        token=f"pk_{tenant.id.hex}_{agent}",
        agent=agent,
        origins=list(origins),
        created_by="x",
        **fields,
    )


@dataclass
class GuestActor(Actor):
    """A guest, whose browser keeps `secret` and is on a page of `origin`."""

    secret: str
    origin: str = ""

    def at(self, origin: str) -> "GuestActor":
        return GuestActor(self.tenant, self.role, self.token, self.principal, self.secret, origin)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **({"Origin": self.origin} if self.origin else {})}


def make_guest(tenant: Tenant, label: str = "Ann", key: PublishableKey | None = None, origin: str = SHOP) -> GuestActor:
    guest, secret = guest_create(tenant_id=tenant.id, label=label, lifetime=timedelta(days=1), key=key)
    return guest_actor(tenant, guest_token(guest), secret, origin if key else "")


def guest_actor(tenant: Tenant, token: str, secret: str, origin: str = "") -> GuestActor:
    return GuestActor(tenant, "member", token, authenticate_guest(token), secret, origin)
