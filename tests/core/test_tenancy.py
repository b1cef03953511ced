"""Row-level security: the catalogue, composite keys, roles."""

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from agents.models import Agent, AgentVersion
from core.rls import catalogue_faults
from core.tenant import tenant_context
from tenants.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db


def test_every_tenant_table_is_protected() -> None:
    assert catalogue_faults(connection) == []


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        ("ALTER TABLE provider DISABLE ROW LEVEL SECURITY", "row security is off"),
        ("ALTER TABLE provider NO FORCE ROW LEVEL SECURITY", "row security is not forced"),
        ("ALTER TABLE provider ALTER tenant_id DROP NOT NULL", "tenant_id may be null"),
        ("DROP POLICY tenant ON provider", "no policy on app_tenant()"),
        (
            "ALTER TABLE message DROP CONSTRAINT message_session_id_tenant_fk, "
            "ADD FOREIGN KEY (session_id) REFERENCES chat_session (id)",
            "a foreign key to a tenant table without tenant_id",
        ),
        ("CREATE VIEW leak AS SELECT * FROM provider", "a view without security_invoker"),
    ],
)
@pytest.mark.django_db(databases=["owner"])
def test_the_catalogue_test_sees_each_fault(break_it: str, fault: str) -> None:
    from django.db import connections

    owner = connections["owner"]
    with transaction.atomic(using="owner"), owner.cursor() as cursor:
        cursor.execute(break_it)
        assert fault in [found for _, found in catalogue_faults(owner)]


def test_without_a_tenant_every_table_reads_as_empty(acme: Tenant, owner: object) -> None:
    assert not Tenant.objects.exists()
    assert not ApiKey.objects.exists()
    with tenant_context(acme.id):
        assert Tenant.objects.get() == acme
        assert ApiKey.objects.count() == 1


def test_a_row_for_another_tenant_is_refused(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme.id), pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
        Agent.objects.create(tenant_id=globex.id, slug="spy")


def test_a_reference_to_another_tenants_row_is_refused(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(globex.id):
        foreign = Agent.objects.create(tenant_id=globex.id, slug="theirs")
    with tenant_context(acme.id), pytest.raises(IntegrityError), transaction.atomic():
        AgentVersion.objects.create(tenant_id=acme.id, agent_id=foreign.id, number=1)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_server_cannot_change_audit_rows_or_tables(acme: Tenant) -> None:
    for statement in ("UPDATE audit_event SET action = 'x'", "DELETE FROM audit_event", "DROP TABLE provider"):
        with (
            tenant_context(acme.id),
            pytest.raises(DatabaseError),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def test_a_rollback_does_not_leave_another_tenant_set(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme.id):
        with pytest.raises(ValueError, match="stop"), transaction.atomic():
            with tenant_context(globex.id):
                assert Tenant.objects.get() == globex
            raise ValueError("stop")
        assert Tenant.objects.get() == acme


def test_migrations_are_complete() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
