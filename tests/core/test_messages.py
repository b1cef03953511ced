"""What goes to the database in which message, and that nothing of it is lost or comes too late."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DataError, ProgrammingError, connection, connections, transaction

from core.db.base import DatabaseWrapper
from core.rows import ask, send
from core.tenant import tenant_context
from tenants.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
NAME = "UPDATE tenant SET name = $1"


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Those of `execute`; a commit of nothing else goes without it."""
    connection.ensure_connection()
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def told(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(query.decode() if isinstance(query, bytes) else query)
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", told)
    yield sent
    connection.close()


def name_of(tenant: Tenant) -> str:
    with tenant_context(tenant.id):
        return str(Tenant.objects.get().name)


def test_a_transaction_begins_with_its_first_statement(acme: Tenant, messages: list[str]) -> None:
    with tenant_context(acme.id), transaction.atomic():
        assert messages == []
        assert Tenant.objects.get() == acme
        assert ApiKey.objects.count() == 0
    assert len(messages) == 2
    assert messages[0].startswith(f"BEGIN; SELECT set_config('app.tenant_id', '{acme.id}', true); SELECT ")
    assert messages[1].startswith("SELECT COUNT(")


def test_a_transaction_without_a_statement_asks_nothing(acme: Tenant, messages: list[str]) -> None:
    with tenant_context(acme.id):
        with transaction.atomic():
            pass
        with pytest.raises(ValueError, match="mind"), transaction.atomic():
            send(NAME, "lost")
            raise ValueError("changed my mind")
    assert messages == []
    assert name_of(acme) == "Acme"


def test_what_is_sent_last_goes_with_the_commit(acme: Tenant, messages: list[str]) -> None:
    with tenant_context(acme.id), transaction.atomic():
        send(NAME, "it's 100 %s\\")
        assert messages == []
    assert [message.rpartition("; ")[2] for message in messages] == ["COMMIT"]
    assert name_of(acme) == "it's 100 %s\\"


def test_outside_of_a_transaction_it_goes_at_once(acme: Tenant, messages: list[str]) -> None:
    with tenant_context(acme.id):
        send(NAME, "now")
        assert len(messages) == 1
    assert name_of(acme) == "now"


def test_a_statement_that_cannot_be_written_does_not_lose_the_begin(acme: Tenant) -> None:
    with tenant_context(acme.id), pytest.raises(ValueError, match="stop"), transaction.atomic():
        send(NAME, "first")
        with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="adapt"):
            cursor.execute("UPDATE tenant SET name = %s", [object()])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tenant SET name = %s", ["second"])
        raise ValueError("stop")
    assert name_of(acme) == "Acme"


def test_a_commit_that_fails_is_told_and_undoes_everything(acme: Tenant) -> None:
    with tenant_context(acme.id):
        with pytest.raises(DataError), transaction.atomic():
            send(NAME, "first")
            send(NAME, "x" * 500)
        with transaction.atomic():  # the connection is as good as new
            assert Tenant.objects.get().name == "Acme"


def test_a_savepoint_takes_back_what_was_sent_since(acme: Tenant) -> None:
    with tenant_context(acme.id), transaction.atomic():
        send(NAME, "before")
        with pytest.raises(ValueError, match="inner"), transaction.atomic():
            send(NAME, "within")
            raise ValueError("inner")
        with pytest.raises(DataError), transaction.atomic():
            send(NAME, "x" * 500)
    assert name_of(acme) == "before"


def test_each_statement_has_the_tenant_of_its_time(acme: Tenant, globex: Tenant) -> None:
    with transaction.atomic():
        for tenant in (acme, globex):
            with tenant_context(tenant.id):
                send("UPDATE tenant SET name = slug || $1", "!")
        with tenant_context(None):
            assert not Tenant.objects.exists()
    assert (name_of(acme), name_of(globex)) == ("acme!", "globex!")


def test_a_failed_statement_outside_leaves_no_tenant(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme.id), connection.cursor() as cursor, pytest.raises(ProgrammingError):
        cursor.execute("SELECT nothing")
    assert not Tenant.objects.exists()
    with tenant_context(globex.id):
        assert Tenant.objects.get() == globex


def test_what_cannot_take_anything_along_follows_it(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme.id), transaction.atomic():
        send(NAME, "sent")
        assert [tenant.name for tenant in Tenant.objects.iterator()] == ["sent"]
        send(NAME, "again")
        with connection.cursor() as cursor, cursor.copy("COPY tenant (name) TO STDOUT") as copied:
            assert list(copied.rows()) == [("again",)]
        send(NAME, "once more")
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE tenant SET name = name || %s", [("!",), ("?",)])
        transaction.set_rollback(True)
    with tenant_context(globex.id):
        assert [tenant.slug for tenant in Tenant.objects.iterator()] == ["globex"]
    assert name_of(acme) == "Acme"


def test_transactions_without_atomic(acme: Tenant) -> None:
    with tenant_context(acme.id):
        connection.set_autocommit(False)
        send(NAME, "kept")
        connection.commit()
        assert Tenant.objects.get().name == "kept"
        send(NAME, "lost")
        connection.rollback()
        connection.set_autocommit(True)
    assert name_of(acme) == "kept"


def test_an_isolation_level_of_the_settings_counts() -> None:
    settings = connection.settings_dict
    options = {**settings["OPTIONS"], "isolation_level": psycopg.IsolationLevel.SERIALIZABLE}
    options.pop("pool", None)
    strict = DatabaseWrapper({**settings, "OPTIONS": options}, alias="default")
    strict.set_autocommit(False)
    with strict.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("serializable",)
    strict.rollback()
    strict.close()


def test_a_statement_is_planned_once_for_a_connection(acme: Tenant, messages: list[str]) -> None:
    sql = "SELECT name || $1 FROM tenant"
    with tenant_context(acme.id):
        for _ in range(2):
            assert ask(sql, "!") == [("Acme!",)]
        with transaction.atomic():
            assert ask(sql, None) == [(None,)]
    assert [message.count("PREPARE") for message in messages] == [1, 0, 0]


def test_a_statement_whose_preparation_fails_is_prepared_anew(acme: Tenant) -> None:
    """Alone, in a transaction that fails, and behind a savepoint that is undone before anything was sent."""
    sql = "SELECT name || $1 FROM tenant"
    with tenant_context(acme.id):
        with pytest.raises(ProgrammingError):
            ask("SELECT nothing || $1", "!")
        with pytest.raises(DataError), transaction.atomic():
            send(NAME, "x" * 500)
            ask(sql, "!")
        with transaction.atomic():
            with pytest.raises(ValueError, match="inner"), transaction.atomic():
                connection.statement(sql, "!")  # type: ignore[attr-defined]
                raise ValueError("inner")
            assert ask(sql, "!") == [("Acme!",)]
        with pytest.raises(ValueError, match="mind"), transaction.atomic():
            assert ask("SELECT $1 || name FROM tenant", "!") == [("!Acme",)]
            raise ValueError("changed my mind")
        assert ask("SELECT $1 || name FROM tenant", "!") == [("!Acme",)]
        assert ask(sql, "!") == [("Acme!",)]


def test_a_planned_statement_follows_a_changed_table(acme: Tenant) -> None:
    sql = "SELECT name || $1 FROM tenant"
    with tenant_context(acme.id):
        assert ask(sql, "!") == [("Acme!",)]
        with connections["owner"].cursor() as cursor:
            cursor.execute("ALTER TABLE tenant ADD COLUMN of_a_newer_release int")
        try:
            assert ask(sql, "!") == [("Acme!",)]
        finally:
            with connections["owner"].cursor() as cursor:
                cursor.execute("ALTER TABLE tenant DROP COLUMN of_a_newer_release")
