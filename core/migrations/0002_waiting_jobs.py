from django.db import migrations

FORWARDS = """
SET LOCAL lock_timeout = '2s';
CREATE INDEX core_waiting_jobs ON procrastinate_jobs ((args ->> 'tenant_id'), queue_name) WHERE status = 'todo';
"""

BACKWARDS = """
SET LOCAL lock_timeout = '2s';
DROP INDEX core_waiting_jobs;
"""


class Migration(migrations.Migration):
    """For `core.jobs`, which counts a tenant's waiting jobs at each enqueuing."""

    dependencies = [("core", "0001_tenancy"), ("procrastinate", "0041_post_retry_failed_job")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
