"""Jobs: enqueued with the transaction, run in their tenant by the worker."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from audit.models import AuditEvent
from core import jobs
from core.tenant import current_tenant, tenant_context
from runs.models import Run
from runs.tasks import expire_lost
from tenants.models import SocketTicket, Tenant
from tenants.tasks import purge_tickets

ALL = ["default", "owner", "ops"]
ran: list[Any] = []


@pytest.fixture(autouse=True)
def _jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_jobs", dict(jobs._jobs))
    ran.clear()
    jobs.job("test.note")(lambda word: ran.append((word, current_tenant())))
    jobs.job("test.platform", platform=True)(lambda: ran.append(current_tenant()))


@pytest.mark.django_db(transaction=True, databases=ALL)
def test_a_job_runs_in_its_tenant_once_committed() -> None:
    tenant = Tenant(slug="acme", name="Acme")
    with tenant_context(tenant.id):
        tenant.save(force_insert=True)
        with pytest.raises(ValueError, match="undo"), transaction.atomic():
            jobs.enqueue("test.note", word="undone")
            raise ValueError("undo")
        jobs.enqueue("test.note", word="kept")
    jobs.enqueue("test.platform")
    asyncio.run(work_off())
    assert ran == [("kept", tenant.id), None]


async def work_off() -> None:
    worker_app = app.with_connector(app.connector.get_worker_connector())
    async with worker_app.open_async():
        await worker_app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)


@pytest.mark.django_db
def test_a_job_without_its_tenant_is_refused() -> None:
    with pytest.raises(RuntimeError, match="needs a tenant"):
        jobs.enqueue("test.note", word="x")
    with pytest.raises(RuntimeError, match="without a tenant"):
        jobs.run_job("test.note", None, {"word": "x"})
    assert not ProcrastinateJob.objects.exists()
    with pytest.raises(ValueError, match="platform=True"):
        jobs.job("test.scheduled", cron="* * * * *")


@pytest.mark.django_db(transaction=True, databases=ALL)
def test_the_platforms_own_jobs_reach_every_tenant() -> None:
    now = timezone.now()
    for slug in ("acme", "globex"):
        tenant = Tenant(slug=slug, name=slug)
        with tenant_context(tenant.id):
            tenant.save(force_insert=True)
            for age in (timedelta(days=1), -timedelta(days=1)):
                hash_ = slug.encode() + str(age).encode()
                SocketTicket.objects.create(tenant=tenant, secret_hash=hash_[:32], principal={}, expires_at=now - age)
                run = Run.objects.create(tenant=tenant, model="m", source="api", actor_kind="x", actor_label="x")
                Run.objects.filter(id=run.id).update(created_at=now - max(age, timedelta(0)))
    purge_tickets()
    expire_lost()
    for tenant in Tenant.objects.using("ops"):
        with tenant_context(tenant.id):
            assert SocketTicket.objects.count() == 1
            assert sorted(Run.objects.values_list("status", flat=True)) == ["expired", "running"]
            assert AuditEvent.objects.get(action="run.finish").after["error_code"] == "run_lost"
