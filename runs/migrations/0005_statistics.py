from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Runs are written meanwhile. Where it is broken off, drop the invalid index `run_statistics` and begin again."""

    atomic = False
    dependencies = [("runs", "0004_tool_approvals")]
    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["tenant", "agent_version", "created_at"],
                include=("status", "started_at", "finished_at"),
                name="run_statistics",
            ),
        ),
    ]
