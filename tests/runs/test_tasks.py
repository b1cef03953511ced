"""Periodic jobs on runs: one that cannot be worked on keeps no other from its turn."""

import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from runs import tasks
from runs.models import Run, RunEvent, RunLease, utc_today
from runs.services.lease import lease_create
from runs.tasks import compact, expire, recover, release_holds
from tenants.models import Tenant
from tests.conftest import Actor
from usage.budgets import Amount, Payer
from usage.models import BudgetHold, BudgetPeriod
from usage.services.budgets import budget_create
from usage.services.spending import reserve

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


def test_what_is_held_for_runs_that_are_gone_is_free_again(in_acme: Tenant, owner: Actor) -> None:
    budget_create(actor=owner.principal, slug="cap", scope="tenant", amount=100)
    waiting_run = waiting(in_acme)
    for run_id in (waiting_run.id, uuid4(), uuid4()):
        payer = Payer(in_acme.id, "api_key", owner.principal.id, "owner", run_id=run_id)
        with transaction.atomic():
            reserve(payer=payer, call_id=uuid4(), amount=Amount(Decimal(5), 1), model="m")
    release_holds()
    assert BudgetPeriod.objects.get().reserved == 15  # they may be about to begin
    BudgetHold.objects.update(created_at=OLD)
    release_holds()
    assert BudgetPeriod.objects.get().reserved == 5
    assert BudgetHold.objects.get().run_id == waiting_run.id
