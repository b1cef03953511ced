"""Background work on runs; every job is safe to run twice."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from core.jobs import enqueue, job
from core.tenant import current_tenant, tenant_context
from runs import runner
from runs.models import IdempotencyKey, OpenSocket, Run, RunLease, SocketServer, ToolApproval, utc_today
from runs.services.compact import run_compact
from runs.services.stop import run_expire
from sessions_app.models import ChatSession
from templates_app.checkpoints import CHECKPOINT_TABLES
from tenants.models import Tenant
from toolsets.models import ToolCall
from toolsets.workspace import forget_temporary, owners, workspace_remove
from usage.models import BudgetHold
from usage.services.spending import release

logger = logging.getLogger(__name__)
DAYS_AHEAD = 7  # for which partitions are made
COMPACT_SECONDS = 50.0  # of each minute
MOST = 20_000  # runs that are looked for at once; no minute is long enough for them


@contextmanager
def _turn_of(tenant_id: UUID, run_id: UUID) -> Iterator[None]:
    """In the run's tenant. What it raises goes to the log, and keeps no other run from its turn."""
    try:
        with tenant_context(tenant_id):
            yield
    except Exception:
        logger.exception("A job failed on a run", extra={"run_id": str(run_id)})


@job("runs.recover", platform=True, cron="* * * * * */5")
def recover() -> None:
    """Find the runs whose process is gone, and those whose turn has come and that nobody has begun."""
    claimable = RunLease.objects.using("ops").filter(lease_until__lt=Now())
    for tenant_id, run_id in claimable.values_list("tenant_id", "run_id"):
        with _turn_of(tenant_id, run_id):
            enqueue("runs.take_over", once=f"run {run_id}", run_id=str(run_id))


@job("runs.take_over", queue="runs")
async def take_over(run_id: str) -> None:
    """Run it here to its end, unless another process has it meanwhile."""
    tenant_id = current_tenant()
    assert tenant_id is not None
    task = await runner.take_over(tenant_id=tenant_id, run_id=UUID(run_id))
    if task is not None:
        await runner.finished(task)


@job("runs.expire", platform=True, cron="* * * * * */30")
def expire() -> None:
    """End the runs that have waited too long for their turn."""
    oldest = timezone.now() - timedelta(seconds=settings.RUN_QUEUE_TIMEOUT)
    waiting = Run.objects.using("ops").filter(status=Run.Status.QUEUED, finished_at=None, created_at__lt=oldest)
    for tenant_id, run_id in waiting.values_list("tenant_id", "id"):
        with _turn_of(tenant_id, run_id):
            run_expire(tenant_id=tenant_id, run_id=run_id)


@job("runs.compact", platform=True, cron="* * * * *")
def compact() -> None:
    """Merge the pieces of messages of runs that finished a day ago, those first that have waited longest."""
    end = time.monotonic() + COMPACT_SECONDS
    oldest = timezone.now() - timedelta(days=1)
    ended = Run.objects.using("ops").filter(finished_at__lt=oldest, compacted_at=None).order_by("finished_at")
    for tenant_id, run_id in ended.values_list("tenant_id", "id")[:MOST]:
        if time.monotonic() > end or runner.is_stopping():  # a worker that stops waits for its jobs
            return
        with _turn_of(tenant_id, run_id):
            run_compact(tenant_id=tenant_id, run_id=run_id)


@job("runs.partitions", platform=True, cron="7 * * * *")
def partitions() -> None:
    """Make the partitions of the days to come, and drop those whose events are kept no longer."""
    today = utc_today()
    with connections["ops"].cursor() as cursor:
        for ahead in range(DAYS_AHEAD + 1):
            cursor.execute("SELECT run_event_add_day(%s)", [today + timedelta(days=ahead)])
        cursor.execute("SELECT run_event_drop_days(%s)", [today - timedelta(days=settings.EVENT_RETENTION_DAYS)])


@job("runs.forget_sockets", platform=True, cron="*/10 * * * *")
def forget_sockets() -> None:
    """Those of processes that died; one that was only paused has lost its sockets meanwhile."""
    SocketServer.objects.using("ops").filter(alive_until__lt=Now() - timedelta(minutes=10)).delete()
    OpenSocket.objects.using("ops").exclude(server__in=SocketServer.objects.using("ops").values("id")).delete()


@job("runs.forget_keys", platform=True, cron="17 * * * *")
def forget_keys() -> None:
    """Idempotency-Keys are free again after IDEMPOTENCY_HOURS."""
    oldest = timezone.now() - timedelta(hours=settings.IDEMPOTENCY_HOURS)
    IdempotencyKey.objects.using("ops").filter(created_at__lt=oldest).delete()


@job("runs.forget_tool_calls", platform=True, cron="27 * * * *")
def forget_tool_calls() -> None:
    """What tools were called with, what they answered and who approved it is kept as long as a run's events."""
    oldest = timezone.now() - timedelta(days=settings.EVENT_RETENTION_DAYS)
    ToolCall.objects.using("ops").filter(created_at__lt=oldest).delete()
    decided = ToolApproval.objects.using("ops").exclude(status=ToolApproval.Status.PENDING)
    decided.filter(created_at__lt=oldest).delete()


@job("runs.forget_workspaces", platform=True, cron="37 * * * *")
def forget_workspaces() -> None:
    """Files of agents go with their session and their tenant; those of a run without a session a day after its end, and
    temporary ones a day after they were written.
    """
    ended = Q(finished_at__lt=timezone.now() - timedelta(days=1))
    rows = {
        "tenant": Tenant.objects.using("ops"),
        "session": ChatSession.objects.using("ops"),
        "run": Run.objects.using("ops").exclude(ended),
    }
    found = list(owners())
    for kind, there in rows.items():
        asked = [owner for owner in found if owner.kind == kind]
        for start in range(0, len(asked), MOST):
            part = asked[start : start + MOST]
            kept = set(there.filter(id__in=[owner.id for owner in part]).values_list("id", flat=True))
            for owner in part:
                if owner.id not in kept:
                    workspace_remove(owner)
    forget_temporary(seconds=86_400)


@job("runs.release_holds", platform=True, cron="* * * * *")
def release_holds() -> None:
    """Free what budgets hold for runs that are not under way. Whoever ends a run does so, unless it was deleted."""
    open_runs = RunLease.objects.using("ops").filter(run_id=OuterRef("run_id"))
    old = BudgetHold.objects.using("ops").filter(created_at__lt=timezone.now() - timedelta(minutes=1))
    left = old.filter(~Exists(open_runs)).values_list("tenant_id", "run_id").distinct()
    for tenant_id, run_id in left[:MOST]:
        with _turn_of(tenant_id, run_id), transaction.atomic():
            release(tenant_id=tenant_id, run_id=run_id)


@job("runs.forget_checkpoints", platform=True, cron="* * * * *")
def forget_checkpoints() -> None:
    """Checkpoints of graphs are needed as long as their run is not finished."""
    finished = "split_part(thread_id, ':', 2)::uuid NOT IN (SELECT run_id FROM run_lease)"
    with connections["ops"].cursor() as cursor:
        for table in CHECKPOINT_TABLES:
            cursor.execute(f"DELETE FROM {table} WHERE {finished}")  # noqa: S608 names of ours
