from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Runs are written meanwhile. Where it is broken off, drop the invalid index `run_guest` and begin again."""

    atomic = False
    dependencies = [("runs", "0005_statistics")]
    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=models.Q(("actor_kind", "guest")),
                fields=["tenant", "actor_id", "created_at"],
                name="run_guest",
            ),
        ),
    ]
