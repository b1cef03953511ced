from django.db import migrations

# The app `toolsets` knows no runs. A call of a run goes with it, as its events do.
ADD = """
ALTER TABLE tool_call ADD CONSTRAINT tool_call_run FOREIGN KEY (tenant_id, run_id)
    REFERENCES run (tenant_id, id) ON DELETE CASCADE
"""
DROP = "ALTER TABLE tool_call DROP CONSTRAINT tool_call_run"


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0002_event_log'),
        ('toolsets', '0002_policy_secrets_calls'),
    ]

    operations = [migrations.RunSQL(ADD, DROP)]
