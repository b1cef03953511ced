"""People of a session for tests: users in browsers, guests, and who takes part in what."""

from typing import Any

from django.test import AsyncClient, Client

from core.tenant import tenant_context
from sessions_app.models import ChatSession, Participant
from tenants.authentication import authenticate_user
from tenants.models import Tenant, User
from tenants.principal import system_principal
from tenants.services import member_add
from tests.conftest import Actor


class UserActor(Actor):
    """A user who has signed in by a browser."""

    user: User

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Tenant": self.tenant.slug}

    def sign_in(self, user: User) -> None:
        self.user = user
        self.http.force_login(user)
        self.ahttp.cookies = self.http.cookies


def make_user(tenant: Tenant, username: str, role: str = "member") -> UserActor:
    with tenant_context(tenant.id):
        user = member_add(actor=system_principal(tenant.id, tenant.slug), username=username, role=role).user
    actor = UserActor(tenant, role, "", authenticate_user(user, tenant.slug))
    actor.sign_in(user)
    return actor


def nobody() -> Client:
    return Client(raise_request_exception=False)


def anybody() -> AsyncClient:
    return AsyncClient(raise_request_exception=False)


def join(session: ChatSession, actor: Actor, role: str) -> Participant:
    """As an owner would let them in; in the tenant's context."""
    who = actor.principal
    assert who.id is not None
    return Participant.objects.create(
        tenant_id=session.tenant_id,
        session=session,
        person_kind=who.kind,
        person_id=who.id,
        label=who.label,
        role=role,
    )


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]
