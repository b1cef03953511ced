"""The queue's own upkeep."""

import logging

from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job, Status

from core.jobs import MAX_RESTARTS, job

logger = logging.getLogger(__name__)

STALLED_SECONDS = 30.0  # without a worker's heartbeat, which comes every 10 s
KEPT = ((1, ["succeeded"]), (14, ["failed", "cancelled", "aborted"]))  # days that a job stays after its end
BATCH = 1000  # rows deleted in one transaction
_DELETE = """
    DELETE FROM procrastinate_jobs WHERE id = ANY (ARRAY(
        SELECT id FROM procrastinate_jobs AS job
        WHERE (SELECT max(at) FROM procrastinate_events WHERE job_id = job.id) < now() - make_interval(days => %s)
            AND status::text = ANY(%s)
        LIMIT %s
    ))
"""  # ARRAY: with a plain IN, PostgreSQL compares each row of the table with each of the batch


@job("core.rescue_jobs", platform=True, cron="* * * * * */30")
async def rescue_jobs() -> None:
    """Return to the queue what killed workers had under way; a job that kills each of its workers fails in the end."""
    for stalled in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
        await _rescue(stalled)


async def _rescue(stalled: Job) -> None:
    if stalled.attempts >= MAX_RESTARTS:
        logger.error("Job %s (%s) failed: no worker lived to end it", stalled.id, stalled.task_name)
        await app.job_manager.finish_job(stalled, Status.FAILED, delete_job=False)
        return
    try:
        await app.job_manager.retry_job(stalled)
        logger.warning("Job %s (%s) is queued again: its worker is gone", stalled.id, stalled.task_name)
    except UniqueViolation:  # the same work, by `once` or by schedule, waits already
        await app.job_manager.finish_job(stalled, Status.ABORTED, delete_job=False)


@job("core.tidy_jobs", platform=True, cron="17 * * * *")
def tidy_jobs() -> None:
    """Delete the jobs that ended long ago, with their events."""
    with connection.cursor() as cursor:
        for days, statuses in KEPT:
            cursor.execute(_DELETE, [days, statuses, BATCH])
            while cursor.rowcount == BATCH:
                cursor.execute(_DELETE, [days, statuses, BATCH])
