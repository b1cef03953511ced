"""Odd uses of a connection: nothing leaves its transaction, and no name is used that the server does not know."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, ProgrammingError, connection, connections, transaction
from psycopg.pq import TransactionStatus

from core.rows import ask, send
from core.tenant import tenant_context
from tenants.models import Tenant
from tests.core.test_messages import NAME, name_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
SQL = "SELECT name FROM tenant WHERE name <> $1"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    connection.close()


def rename(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenant SET name = %s", [name])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_without_atomic_each_end_begins_another_transaction(acme: Tenant, end: str) -> None:
    with tenant_context(acme.id):
        connection.set_autocommit(False)
        rename("first")
        getattr(connection, end)()
        rename("second")
        assert Tenant.objects.get().name == "second"
        assert Tenant.objects.get().name == "second"  # the tenant is that of the whole transaction
        connection.rollback()
        connection.set_autocommit(True)
    assert name_of(acme) == ("first" if end == "commit" else "Acme")


def test_autocommit_is_not_switched_on_before_what_is_owed_was_sent(acme: Tenant, globex: Tenant) -> None:
    connection.set_autocommit(False)
    with tenant_context(acme.id):
        send(NAME, "owed")
        with pytest.raises(ProgrammingError, match="autocommit"):
            connection.set_autocommit(True)
    connection.rollback()
    connection.set_autocommit(True)
    with tenant_context(globex.id):
        rename("globex")
    assert (name_of(acme), name_of(globex)) == ("Acme", "globex")


def test_autocommit_is_not_switched_off_twice(acme: Tenant) -> None:
    """The second BEGIN alone would be owed, which a commit of nothing else drops."""
    with tenant_context(acme.id):
        connection.set_autocommit(False)
        rename("kept")
        with pytest.raises(ProgrammingError, match="autocommit"):
            connection.set_autocommit(False)
        connection.commit()
        connection.set_autocommit(True)
    connection.close()
    assert name_of(acme) == "kept"


def test_an_interrupted_commit_is_not_sent_again(acme: Tenant, globex: Tenant, monkeypatch: Any) -> None:
    execute = psycopg.Cursor.execute

    def interrupted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        if isinstance(query, bytes) and query.endswith(b"COMMIT"):
            raise KeyboardInterrupt
        return execute(self, query, *args, **options)

    with monkeypatch.context() as patched, tenant_context(acme.id):
        patched.setattr(psycopg.Cursor, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            send(NAME, "lost")
    with tenant_context(globex.id):
        rename("globex")
    assert connection.connection.info.transaction_status == TransactionStatus.IDLE
    assert (name_of(acme), name_of(globex)) == ("Acme", "globex")


def test_names_that_the_server_does_not_know_are_prepared_anew(acme: Tenant) -> None:
    with tenant_context(acme.id):
        assert ask(SQL, "!") == [("Acme",)]
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        with pytest.raises(DatabaseError, match="does not exist"):
            ask(SQL, "!")
        assert ask(SQL, "!") == [("Acme",)]


@pytest.mark.parametrize("within", [False, True])
def test_a_planned_statement_of_another_type_fails_once(acme: Tenant, within: bool) -> None:
    """Columns are widened by releases while connections stay in the pool."""

    sql = f"{SQL} OR {within}"  # of no other test

    def asked() -> list[Any]:
        if not within:
            return ask(sql, "!")
        with transaction.atomic():
            return ask(sql, "!")

    with tenant_context(acme.id):
        assert asked() == [("Acme",)]
        with connections["owner"].cursor() as cursor:
            cursor.execute("ALTER TABLE tenant ALTER COLUMN name TYPE varchar(333)")
        try:
            with pytest.raises(DatabaseError, match="cached plan"):
                asked()
            assert asked() == [("Acme",)]
        finally:
            with connections["owner"].cursor() as cursor:
                cursor.execute("ALTER TABLE tenant ALTER COLUMN name TYPE varchar(120)")


@pytest.mark.parametrize("text", ["a\\'b", "%s %", "$1 $2", "é\U0001f600", "'; DROP TABLE x; --", "\\", "E'\\'"])
@pytest.mark.parametrize("conforming", ["on", "off"])
def test_a_text_arrives_as_it_is(acme: Tenant, text: str, conforming: str) -> None:
    with tenant_context(acme.id), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL standard_conforming_strings = {conforming}")
        assert ask("SELECT $1::text, $2::text", text, "$1") == [(text, "$1")]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_text_that_cannot_be_stored_is_refused(acme: Tenant, text: str) -> None:
    """It is not cut where PostgreSQL would end it; the transaction goes on."""
    with tenant_context(acme.id), transaction.atomic():
        with pytest.raises(ValueError, match="NUL|surrogates"):
            send(NAME, text)
        send(NAME, "kept")
    assert name_of(acme) == "kept"
