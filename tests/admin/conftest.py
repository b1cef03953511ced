"""Three people in browsers: Olga owns acme and works in globex too, Vera may look at acme, Stan owns globex."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from core.tenant import tenant_context
from tenants.models import Tenant, User
from tenants.principal import system_principal
from tenants.services import member_add

PASSWORD = "correct horse battery staple"


def make_member(tenant: Tenant, username: str, role: str) -> User:
    with tenant_context(tenant.id):
        actor = system_principal(tenant.id, tenant.slug)
        return member_add(actor=actor, username=username, role=role, password=PASSWORD).user


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def _cold_pages() -> None:
    cache.clear()


@pytest.fixture
def olga(acme: Tenant, globex: Tenant) -> Client:
    make_member(globex, "olga", "admin")
    return browser_of(make_member(acme, "olga", "owner"))


@pytest.fixture
def vera(acme: Tenant) -> Client:
    return browser_of(make_member(acme, "vera", "viewer"))


@pytest.fixture
def stan(globex: Tenant) -> Client:
    return browser_of(make_member(globex, "stan", "owner"))


def page(client: Client, path: str, tenant: str = "acme", **query: Any) -> Any:
    return client.get(f"/t/{tenant}/admin/{path}", query)


def post(client: Client, path: str, data: dict[str, Any], tenant: str = "acme") -> Any:
    return client.post(f"/t/{tenant}/admin/{path}", data)


def text_of(response: Any) -> str:
    return str(response.content.decode())
