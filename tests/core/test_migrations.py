"""Every migration of ours goes up, down and up again."""

import pytest
from django.core.management import call_command
from django.db import connections

from core.rls import catalogue_faults

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
