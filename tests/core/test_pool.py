"""Pooled connections: none that ended is used, and none keeps a tenant."""

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from django.db import InterfaceError, connection, connections, transaction

from core.tenant import tenant_context
from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


@pytest.fixture
def pooled() -> Iterator[None]:
    """Connections go back to the pool at `close`."""
    assert connection.pool
    yield
    connection.close()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("way", ["transaction", "statement", "rollback"])
def test_a_connection_goes_back_without_its_tenant(acme: Tenant, pooled: None, way: str) -> None:
    with tenant_context(acme.id):
        if way == "statement":
            assert Tenant.objects.get() == acme
        else:
            with transaction.atomic():
                assert Tenant.objects.get() == acme
                transaction.set_rollback(way == "rollback")
        returned = connection.connection
    connection.close()
    left = returned.execute("SELECT current_setting('app.tenant_id', true)").fetchone()  # as the server has it
    assert left[0] in (None, "")


def test_a_connection_that_is_closed_in_a_transaction_keeps_no_tenant(acme: Tenant, pooled: None) -> None:
    """After a statement outside, whose tenant the connection has."""
    with tenant_context(acme.id):
        assert Tenant.objects.get() == acme
        returned = connection.connection
        with suppress(InterfaceError), transaction.atomic():
            assert Tenant.objects.get() == acme
            connection.close()
    pool = connection.pool
    assert pool
    for held in [pool.getconn() for _ in range(pool.get_stats()["pool_available"])]:
        if held is returned:
            left = held.execute("SELECT current_setting('app.tenant_id', true)").fetchone()
            assert left[0] in (None, "")
            held.rollback()
            pool.putconn(held)
            return
        pool.putconn(held)
    raise AssertionError("The connection did not go back.")


def test_connections_that_the_server_ended_are_replaced(acme: Tenant, pooled: None) -> None:
    before = backend()
    connections.close_all()
    config = connections["owner"].settings_dict
    login = {"host": config["HOST"], "port": config["PORT"], "user": config["USER"], "password": config["PASSWORD"]}
    with psycopg.connect(dbname=config["NAME"], **login) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
        )
    with tenant_context(acme.id):
        assert Tenant.objects.get() == acme
    assert backend() != before
