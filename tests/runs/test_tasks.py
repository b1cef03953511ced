"""Periodic jobs on runs: one that cannot be worked on keeps no other from its turn."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from runs import tasks
from runs.models import Run, RunEvent, RunLease, utc_today
from runs.services.lease import lease_create
from runs.tasks import compact, expire, recover
from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
OLD = timezone.now() - datetime.timedelta(days=2)


def make_run(tenant: Tenant, **fields: Any) -> Run:
    return Run(tenant=tenant, model="m", source="api", actor_kind="x", actor_label="x", **fields)


def waiting(tenant: Tenant, **fields: Any) -> Run:
    run = make_run(tenant, status="queued", **fields)
    run.save()
    Run.objects.filter(id=run.id).update(created_at=OLD)
    lease_create(run, None)
    return run


def test_every_run_that_waited_too_long_ends(in_acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    broken = waiting(in_acme, request={"heard_by": "no id"})
    others = [waiting(in_acme) for _ in range(2)]
    expire()
    found = dict(Run.objects.values_list("id", "status"))
    assert found == {broken.id: "queued", **{run.id: "expired" for run in others}}
    assert "A job failed on a run" in caplog.text


def test_every_run_that_may_be_claimed_is_enqueued(in_acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [waiting(in_acme) for _ in range(3)]
    RunLease.objects.update(lease_until=OLD)
    asked: list[Any] = []

    def failing_once(*_: Any, run_id: str, **__: Any) -> None:
        asked.append(run_id)
        if len(asked) == 1:
            raise ValueError("a run of its own kind")

    monkeypatch.setattr(tasks, "enqueue", failing_once)
    recover()
    assert sorted(asked) == sorted(str(run.id) for run in runs)


def ended(tenant: Tenant, number: int) -> list[Run]:
    runs = [make_run(tenant, status="succeeded", finished_at=OLD) for _ in range(number)]
    return Run.objects.bulk_create(runs)


def test_all_that_is_due_is_compacted(in_acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    broken, *_ = ended(in_acme, 250)
    Run.objects.filter(id=broken.id).update(finished_at=OLD - datetime.timedelta(hours=1))
    lease_create(broken, None)  # makes the day's partition
    RunEvent.objects.create(
        tenant_id=in_acme.id,
        run_id=broken.id,
        day=utc_today(),
        at_ms=1,
        seq=1,
        fence=1,
        type="TEXT_MESSAGE_CONTENT",
        data={},
    )
    compact()
    assert [run.id for run in Run.objects.filter(compacted_at=None)] == [broken.id]
    assert "A job failed on a run" in caplog.text


@pytest.mark.parametrize("over", [("tasks.COMPACT_SECONDS", -1.0), ("runner.is_stopping", lambda: True)])
def test_compaction_ends_with_its_minute_and_its_worker(
    in_acme: Tenant, monkeypatch: pytest.MonkeyPatch, over: tuple[str, Any]
) -> None:
    ended(in_acme, 3)
    monkeypatch.setattr(f"runs.{over[0]}", over[1])
    compact()
    assert Run.objects.filter(compacted_at=None).count() == 3
