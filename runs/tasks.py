from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from core.jobs import job
from runs.models import Run


@job("runs.expire_lost", platform=True, cron="* * * * *")
def expire_lost() -> None:
    """End the runs whose process died: they are older than any run may get."""
    oldest = timezone.now() - timedelta(seconds=settings.RUN_TIMEOUT + 60)
    lost = Run.objects.using("ops").filter(status=Run.Status.RUNNING, created_at__lt=oldest)
    lost.update(
        status=Run.Status.EXPIRED,
        finished_at=timezone.now(),
        error_code="run_lost",
        error_message="The process that ran it ended.",
    )
