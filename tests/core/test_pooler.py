"""What a database is asked before it serves tenants, and the mode that works behind a transaction pooler."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, NotSupportedError, connections

from agentsite import lifespan
from core.db import pooler
from core.db.base import DatabaseWrapper
from core.tenant import tenant_context
from tenants.models import Tenant

Parameters = dict[str, Any]


class Client:
    """A client of a transaction pooler: each statement, or transaction, takes the server that was last put back."""

    def __init__(self, servers: list[dict[str, str]]) -> None:
        self.servers = servers
        self.held: dict[str, str] | None = None

    def execute(self, statement: str, parameters: list[str]) -> "Client":
        server = self.held if self.held is not None else self.servers.pop()
        if "set_config" in statement:
            server[parameters[0]] = parameters[1]
        self.row = (server.get(parameters[0]),)
        if self.held is None:
            self.servers.append(server)
        return self

    def fetchone(self) -> tuple[str | None]:
        return self.row

    def transaction(self) -> "Client":
        return self

    def __enter__(self) -> None:
        self.held = self.servers.pop()

    def __exit__(self, *_: object) -> None:
        assert self.held is not None
        self.servers.append(self.held)
        self.held = None


@pytest.mark.parametrize("count", [1, 5])
def test_a_transaction_pooler_is_recognised(count: int) -> None:
    servers: list[dict[str, str]] = [{} for _ in range(count)]
    assert not pooler._keeps_setting(Client(servers), Client(servers))  # type: ignore[arg-type]


def test_connections_of_their_own_are_recognised() -> None:
    assert pooler._keeps_setting(Client([{}]), Client([{}]))  # type: ignore[arg-type]


@pytest.fixture
def parameters(db: None) -> Parameters:
    """How the server connects: with the role of `default`."""
    return {**connections["owner"].get_connection_params(), "options": "-c role=app_user"}


def test_a_direct_connection_is_accepted(parameters: Parameters) -> None:
    pooler.require_safe("default", parameters, session=True)


def test_a_role_that_reads_everything_is_refused(parameters: Parameters) -> None:
    with pytest.raises(ImproperlyConfigured, match="does not bind the role app_ops of database default"):
        pooler.require_safe("default", {**parameters, "options": "-c role=app_ops"}, session=True)


def test_the_server_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ImproperlyConfigured("It would leak.")

    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup" if not sent else "lifespan.shutdown"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    monkeypatch.setattr(lifespan, "ask_database", refuse)
    asyncio.run(lifespan.Lifespan()({}, receive, send))
    assert sent[0] == {"type": "lifespan.startup.failed", "message": "It would leak."}


@pytest.fixture
def local(transactional_db: None) -> Iterator[DatabaseWrapper]:
    settings = connections["owner"].settings_dict
    options = {**settings["OPTIONS"], "options": "-c role=app_user"}
    wrapper = DatabaseWrapper({**settings, "TENANT_MODE": "local", "OPTIONS": options}, alias="default")
    yield wrapper
    wrapper.close()


def setting_of(wrapper: DatabaseWrapper) -> str:
    """What the connection itself keeps between statements, which another client of a pooler would find."""
    with psycopg.Cursor(wrapper.connection) as cursor:
        return str(cursor.execute("SELECT coalesce(current_setting('app.tenant_id', true), '')").fetchone())


def slugs(wrapper: DatabaseWrapper) -> list[str]:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT slug FROM tenant WHERE slug <> %s", ["other"])
        return [slug for (slug,) in cursor.fetchall()]


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_mode_local_leaves_nothing_on_the_connection(local: DatabaseWrapper, acme: Tenant, globex: Tenant) -> None:
    assert slugs(local) == []
    for tenant in (acme, globex):
        with tenant_context(tenant.id):
            assert slugs(local) == [tenant.slug]
            assert setting_of(local) == "('',)"
    local.set_autocommit(False)
    with tenant_context(acme.id):
        assert slugs(local) == ["acme"]
    assert slugs(local) == []
    local.commit()
    local.set_autocommit(True)
    assert setting_of(local) == "('',)"


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_mode_local_refuses_rows_of_another_tenant(local: DatabaseWrapper, acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme.id), local.cursor() as cursor:
        with pytest.raises(DatabaseError, match="row-level security"):
            cursor.execute("INSERT INTO tenant SELECT %s, 'spy', 'Spy', 'active', now(), now()", [globex.id])
        assert slugs(local) == ["acme"]


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_mode_local_prepares_nothing_and_forgets_the_tenant_of_what_failed(
    local: DatabaseWrapper, acme: Tenant
) -> None:
    with tenant_context(acme.id):
        local.send_later("UPDATE tenant SET name = $1 || $2", "it's ", "$1")
        with local.cursor() as cursor:
            cursor.execute("SELECT name FROM tenant")
            assert cursor.fetchone() == ("it's $1",)
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone() == (0,)
            with pytest.raises(DatabaseError):
                cursor.execute("SELECT nothing")
    assert slugs(local) == []


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_mode_local_refuses_what_would_run_without_its_tenant(local: DatabaseWrapper, acme: Tenant) -> None:
    rename = "UPDATE tenant SET name = %s"
    with tenant_context(acme.id), local.cursor() as cursor:
        with pytest.raises(NotSupportedError, match="needs a transaction"):
            cursor.executemany(rename, [("a",), ("b",)])
        local.set_autocommit(False)
        cursor.executemany(rename, [("a",), ("b",)])
        local.commit()
        local.set_autocommit(True)
        cursor.execute("SELECT name FROM tenant")
        assert cursor.fetchone() == ("b",)
