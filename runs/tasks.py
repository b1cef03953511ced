from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from core.jobs import job
from core.tenant import tenant_context
from runs.models import Run
from runs.services import run_expire


@job("runs.expire_lost", platform=True, cron="* * * * *")
def expire_lost() -> None:
    """End the runs whose process died: they are older than any run may get."""
    oldest = timezone.now() - timedelta(seconds=settings.RUN_TIMEOUT + 60)
    for run in Run.objects.using("ops").filter(status=Run.Status.RUNNING, created_at__lt=oldest):
        with tenant_context(run.tenant_id):
            run_expire(run=run)
