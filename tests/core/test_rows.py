"""Rows that are stored by one statement are as the ORM would store them."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import AuditEvent
from core.rows import row_insert, row_update
from core.tenant import tenant_context
from runs.models import Run
from tenants.models import Tenant

pytestmark = pytest.mark.django_db
REQUEST = {
    "messages": [{"role": "user", "content": 'it\'s 100 % \\u00e9 é "quoted" 😀'}],
    "params": {"a": [1, 2.5, None]},
}


def run_of(tenant: Tenant, **fields: Any) -> Run:
    return Run(tenant=tenant, model="p/m", source="api", actor_kind="x", actor_label="x", request=REQUEST, **fields)


def test_a_row_is_stored_as_the_orm_stores_it(in_acme: Tenant) -> None:
    began = timezone.now()
    ours, orms = (
        run_of(in_acme, started_at=began, end_user="'; --"),
        run_of(in_acme, started_at=began, end_user="'; --"),
    )
    row_insert(ours)
    orms.save()
    same = [field.attname for field in Run._meta.concrete_fields if field.attname not in ("id", "created_at")]
    stored = {row["id"]: row for row in Run.objects.values()}
    assert [stored[ours.id][name] for name in same] == [stored[orms.id][name] for name in same]
    assert abs(stored[ours.id]["created_at"] - orms.created_at) < timedelta(seconds=5)
    ours.model = "changed"
    ours.save()  # it is known to be stored


def test_only_the_named_fields_of_the_row_change(in_acme: Tenant) -> None:
    row, other = run_of(in_acme), run_of(in_acme)
    row_insert(row)
    row_insert(other)
    row.status, row.error_message, row.finished_at, row.model = "failed", "it's", timezone.now(), "not/stored"
    row_update(row, ("status", "error_message", "finished_at"))
    found = Run.objects.get(id=row.id)
    assert (found.status, found.error_message, found.finished_at) == ("failed", "it's", row.finished_at)
    assert (found.model, Run.objects.get(id=other.id).status) == ("p/m", "running")


def test_another_tenants_row_is_neither_made_nor_changed(in_acme: Tenant, globex: Tenant) -> None:
    row = run_of(in_acme)
    row_insert(row)
    with tenant_context(globex.id):
        row.status = "failed"
        row_update(row, ("status",))
        with pytest.raises(Exception, match="row-level security"), transaction.atomic():
            row_insert(run_of(in_acme))
    assert [run.status for run in Run.objects.all()] == ["running"]


def test_what_the_table_refuses_is_raised_as_the_orm_raises_it(in_acme: Tenant) -> None:
    row = run_of(in_acme)
    row_insert(row)
    with pytest.raises(IntegrityError), transaction.atomic():
        row_insert(row)
    event = AuditEvent(tenant=in_acme, actor_kind="x", actor_label="x", action="a.b", object_type="a", object_id="1")
    event.object_label, event.after = "x", {"number": 1}
    row_insert(event)
    found = AuditEvent.objects.get(id=event.id)
    assert (found.before, found.after, found.ip) == (None, {"number": 1}, None)


def test_what_nobody_waits_for_goes_with_the_next_statement_and_in_its_order(in_acme: Tenant) -> None:
    row = run_of(in_acme)
    with CaptureQueriesContext(connection) as captured:
        row_insert(row)
        row.status = "failed"
        row_update(row, ("status",))
        assert len(captured) == 0
        assert Run.objects.get().status == "failed"
    assert len(captured) == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        row_update(row, ("status",))
        row_insert(row)  # which is told at the end of the block
    with pytest.raises(ValueError, match="changed my mind"), transaction.atomic():
        row_insert(run_of(in_acme))
        raise ValueError("changed my mind")
    assert Run.objects.count() == 1
