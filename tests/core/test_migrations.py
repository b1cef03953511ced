"""Every migration of ours goes up, down and up again."""

import orjson
import pytest
from django.core.management import call_command
from django.db import connections

from core.rls import catalogue_faults
from core.tenant import tenant_context
from llm.models import Provider, ProviderModel
from tenants.models import Tenant

OURS = ("core", "tenants", "audit", "llm", "toolsets", "templates_app", "agents", "sessions_app", "runs")


def tables() -> set[str]:
    with connections["owner"].cursor() as cursor:
        return set(connections["owner"].introspection.table_names(cursor))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_up_down_up() -> None:
    connections["default"].close()
    before = tables()
    try:
        for app in reversed(OURS[1:]):
            call_command("migrate", app, "zero", database="owner", verbosity=0)
        call_command("migrate", "core", "0001", database="owner", verbosity=0)
        assert not tables() & {"agent", "run", "tenant", "audit_event", "message"}
    finally:
        call_command("migrate", database="owner", verbosity=0)
    assert tables() == before
    assert catalogue_faults(connections["owner"]) == []


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
def test_the_models_of_providers_are_copied_there_and_back(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with tenant_context(tenant.id):
            provider = Provider.objects.create(tenant=tenant, slug="main", kind="openai")
            for name in ("b", "a", "off"):
                ProviderModel.objects.create(tenant=tenant, provider=provider, name=name, enabled=name != "off")
    connections["default"].close()
    try:
        call_command("migrate", "llm", "0001", database="owner", verbosity=0)
        with connections["ops"].cursor() as cursor:
            cursor.execute("SELECT model_names FROM provider")
            assert [orjson.loads(row[0]) for row in cursor.fetchall()] == [["a", "b"]] * 2
            listed = orjson.dumps(["c", "a", "a", "", "x" * 256]).decode()
            cursor.execute("UPDATE provider SET model_names = %s WHERE tenant_id = %s", [listed, acme.id])
    finally:
        call_command("migrate", database="owner", verbosity=0)
    for tenant, names in ((acme, ["a", "c"]), (globex, ["a", "b"])):
        with tenant_context(tenant.id):
            rows = ProviderModel.objects.order_by("name").values_list("name", "enabled", "entered", "overrides")
            assert list(rows) == [(name, True, False, {}) for name in names]
    assert catalogue_faults(connections["owner"]) == []
