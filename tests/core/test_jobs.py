"""Jobs: enqueued with the transaction, run in their tenant, fair between tenants, rescued from dead workers."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app, procrastinate_app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.periodic import PeriodicRegistry

from audit.models import AuditEvent
from core import jobs, tasks
from core.aio import in_db_thread
from core.tenant import current_tenant, tenant_context
from runs.models import Run
from runs.services.lease import lease_create
from runs.tasks import expire
from tenants.models import Guest, SocketTicket, Tenant
from tenants.tasks import purge_guests, purge_tickets

ALL = ["default", "owner", "ops"]
committed = pytest.mark.django_db(transaction=True, databases=ALL)
ran: list[Any] = []


@pytest.fixture(autouse=True)
def _jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procrastinate_app.current_app, "tasks", dict(app.tasks))
    monkeypatch.setattr(procrastinate_app.current_app, "periodic_registry", PeriodicRegistry())
    monkeypatch.setattr(jobs, "_platform", set(jobs._platform))
    ran.clear()
    jobs.job("test.note")(lambda word: ran.append((word, current_tenant())))
    jobs.job("test.platform", platform=True)(lambda: ran.append(current_tenant()))


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    """What committed tests left: the queue's tables are none of Django's to flush."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def tenant(slug: str) -> Tenant:
    made = Tenant(slug=slug, name=slug)
    with tenant_context(made.id):
        made.save(force_insert=True)
    return made


async def work_off(**options: Any) -> None:
    worker_app = app.with_connector(app.connector.get_worker_connector())
    async with worker_app.open_async():
        await worker_app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False, **options)


def statuses() -> list[tuple[str, int]]:
    return list(ProcrastinateJob.objects.order_by("id").values_list("status", "attempts"))


@committed
def test_a_job_runs_in_its_tenant_once_committed() -> None:
    acme = tenant("acme")
    with tenant_context(acme.id):
        with pytest.raises(ValueError, match="undo"), transaction.atomic():
            jobs.enqueue("test.note", word="undone")
            raise ValueError("undo")
        jobs.enqueue("test.note", word="kept")
        jobs.enqueue("test.platform")
    asyncio.run(work_off())
    assert ran == [("kept", acme.id), None]


@committed
def test_a_job_starts_not_before_its_time() -> None:
    with tenant_context(tenant("acme").id):
        jobs.enqueue("test.note", word="later", at=timezone.now() + timedelta(minutes=1))
        jobs.enqueue("test.note", word="due", at=timezone.now() - timedelta(minutes=1))
    asyncio.run(work_off())
    assert [word for word, _ in ran] == ["due"]


@committed
def test_async_jobs_wait_at_once_each_in_its_tenant() -> None:
    everybody = asyncio.Barrier(200)

    @jobs.job("test.async", queue="runs")
    async def meet() -> None:
        await everybody.wait()
        ran.append((current_tenant(), await in_db_thread(Tenant.objects.get)))

    tenants = [tenant("acme"), tenant("globex")]
    for made in tenants * 100:
        with tenant_context(made.id):
            jobs.enqueue("test.async")
    asyncio.run(work_off(concurrency=200))
    assert sorted(ran, key=str) == sorted([(made.id, made) for made in tenants * 100], key=str)


@pytest.mark.django_db
def test_a_job_without_its_tenant_is_refused() -> None:
    with pytest.raises(RuntimeError, match="needs a tenant"):
        jobs.enqueue("test.note", word="x")
    with pytest.raises(RuntimeError, match="without a tenant"):
        app.tasks["test.note"](None, {"word": "x"})
    with pytest.raises(KeyError):
        jobs.enqueue("test.unknown")
    assert not ProcrastinateJob.objects.exists()
    with pytest.raises(ValueError, match="platform=True"):
        jobs.job("test.scheduled", cron="* * * * *")


@committed
def test_a_job_fails_once_when_its_tenant_is_gone() -> None:
    jobs.job("test.get")(lambda: Tenant.objects.get())
    with tenant_context(uuid4()):
        jobs.enqueue("test.get")
    asyncio.run(work_off())
    assert statuses() == [("failed", 1)]


@committed
def test_once_keeps_one_waiting_per_tenant_and_lets_the_transaction_go_on() -> None:
    acme, globex = tenant("acme"), tenant("globex")
    for made in (acme, globex):
        with tenant_context(made.id), transaction.atomic():
            for word in ("first", "second"):
                jobs.enqueue("test.note", once="sync", word=word)
            jobs.enqueue("test.note", once="other", word="third")
    with tenant_context(acme.id):
        jobs.enqueue("test.note", once="sync", word="fourth")
    asyncio.run(work_off())
    assert ran == [(word, made.id) for made in (acme, globex) for word in ("first", "third")]
    with tenant_context(acme.id):
        jobs.enqueue("test.note", once="sync", word="again")
    assert ProcrastinateJob.objects.filter(status="todo").count() == 1


@committed
def test_a_small_tenant_overtakes_a_backlog() -> None:
    big, small = tenant("big"), tenant("small")
    with tenant_context(big.id), transaction.atomic():
        for number in range(3 * jobs.STEP):
            jobs.enqueue("test.note", word=number)
    with tenant_context(small.id):
        jobs.enqueue("test.note", word="mine")
    assert set(ProcrastinateJob.objects.values_list("priority", flat=True)) == {0, -1, -2}
    asyncio.run(work_off(concurrency=1))
    assert ran.index(("mine", small.id)) == jobs.STEP
    assert len(ran) == 3 * jobs.STEP + 1


def strand(*, heartbeat: timedelta) -> None:
    """Leave the jobs that wait to a worker that reported so long ago."""
    with connection.cursor() as cursor:
        seen = timezone.now() - heartbeat
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s) RETURNING id", [seen])
        (worker,) = cursor.fetchone()
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE status = 'todo'", [worker])


rescue = async_to_sync(tasks.rescue_jobs)


@committed
def test_a_dead_workers_job_is_run_by_another() -> None:
    jobs.enqueue("test.platform")
    strand(heartbeat=timedelta(seconds=tasks.STALLED_SECONDS + 1))
    asyncio.run(work_off())
    assert ran == []
    rescue()
    asyncio.run(work_off())
    assert (ran, statuses()) == ([None], [("succeeded", 2)])


@pytest.mark.django_db
def test_a_live_workers_job_is_left_to_it() -> None:
    jobs.enqueue("test.platform")
    strand(heartbeat=timedelta(seconds=tasks.STALLED_SECONDS - 5))
    rescue()
    assert statuses() == [("doing", 0)]


@pytest.mark.django_db
def test_a_job_that_kills_its_workers_fails_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    jobs.enqueue("test.platform")
    for restart in range(jobs.MAX_RESTARTS):
        strand(heartbeat=timedelta(minutes=1))
        rescue()
        assert statuses() == [("todo", restart + 1)]
    strand(heartbeat=timedelta(minutes=1))
    rescue()
    assert statuses() == [("failed", jobs.MAX_RESTARTS + 1)]
    assert "test.platform) failed: no worker lived" in caplog.text


@committed
def test_what_waits_again_already_is_not_rescued() -> None:
    jobs.enqueue("test.platform", once="x")
    jobs.enqueue("test.platform", once="y")
    strand(heartbeat=timedelta(minutes=1))
    jobs.enqueue("test.platform", once="x")
    rescue()
    assert statuses() == [("aborted", 1), ("todo", 1), ("todo", 0)]


@committed
def test_a_job_that_outlasts_its_worker_is_queued_again() -> None:
    began = asyncio.Event()

    @jobs.job("test.endless", platform=True, queue="runs")
    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    async def stop_it() -> None:
        worker = asyncio.create_task(work_off(shutdown_graceful_timeout=0.1))
        await began.wait()
        worker.cancel()
        await asyncio.wait([worker])

    jobs.enqueue("test.endless")
    asyncio.run(stop_it())
    assert statuses() == [("todo", 1)]


def ended(status: str, age: timedelta) -> int:
    """The id of a job that ended so long ago and was enqueued long before."""
    now = timezone.now()
    job = "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('default', 'x', %s) RETURNING id"
    event = "INSERT INTO procrastinate_events (job_id, type, at) VALUES (%s, %s, %s)"
    with connection.cursor() as cursor:
        cursor.execute(job, [status])
        (number,) = cursor.fetchone()
        cursor.executemany(event, [(number, "deferred", now - timedelta(days=99)), (number, status, now - age)])
    return int(number)


@pytest.mark.django_db
def test_jobs_that_ended_long_ago_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)
    day, kept = timedelta(days=1), []
    for status, age in (("succeeded", 1), ("failed", 14), ("cancelled", 14), ("aborted", 14)):
        kept.append(ended(status, age * day - timedelta(hours=1)))
        for _ in range(3):
            ended(status, age * day + timedelta(hours=1))
    jobs.enqueue("test.platform")
    tasks.tidy_jobs()
    left = ProcrastinateJob.objects.order_by("id")
    assert [job.id for job in left if job.status != "todo"] == kept
    assert left.count() == len(kept) + 1
    assert set(ProcrastinateEvent.objects.values_list("job_id", flat=True)) == {job.id for job in left}


@committed
def test_the_platforms_own_jobs_reach_every_tenant() -> None:
    now = timezone.now()
    for slug in ("acme", "globex"):
        made = tenant(slug)
        with tenant_context(made.id):
            for age in (timedelta(days=1), -timedelta(days=1)):
                hash_ = slug.encode() + str(age).encode()
                SocketTicket.objects.create(tenant=made, secret_hash=hash_[:32], principal={}, expires_at=now - age)
                Guest.objects.create(tenant=made, label="Ann", secret_hash=hash_[:32], expires_at=now - age)
                who = {"source": "api", "actor_kind": "x", "actor_label": "x"}
                run = Run.objects.create(tenant=made, model="m", status="queued", **who)
                Run.objects.filter(id=run.id).update(created_at=now - max(age, timedelta(0)))
                lease_create(run, None)
    purge_tickets()
    purge_guests()
    expire()
    for made in Tenant.objects.using("ops"):
        with tenant_context(made.id):
            assert SocketTicket.objects.count() == Guest.objects.count() == 1
            assert sorted(Run.objects.values_list("status", flat=True)) == ["expired", "queued"]
            assert AuditEvent.objects.get(action="run.finish").after["error_code"] == "queue_timeout"
