"""`manage.py check` sees what row-level security would miss."""

import pytest
from django.core.checks import run_checks
from django.db import connections, models, transaction
from django.test.utils import isolate_apps

from core import checks
from tenants.models import ApiKey, TenantModel


def test_models_and_database_are_in_order(db: None) -> None:
    assert [fault for fault in run_checks(databases=["default"]) if fault.id.startswith("core.")] == []


@isolate_apps("tenants")
def test_a_plain_key_between_tenant_tables_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Note(TenantModel):
        key = models.ForeignKey(ApiKey, on_delete=models.CASCADE)

        class Meta:
            app_label = "tenants"

    monkeypatch.setattr(checks.apps, "get_models", lambda: [Note])
    (fault,) = checks.tenant_keys_are_composite()
    assert (fault.id, fault.msg) == ("core.E001", "tenants.Note.key must be a TenantForeignKey.")


@pytest.mark.django_db(databases=["owner"])
def test_an_unprotected_table_is_a_fault() -> None:
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE provider NO FORCE ROW LEVEL SECURITY")
        faults = checks.tenant_tables_are_protected(databases=["owner"])
        transaction.set_rollback(True, using="owner")
    assert [(fault.id, fault.msg) for fault in faults] == [
        ("core.E002", "Table provider of database owner: row security is not forced.")
    ]
