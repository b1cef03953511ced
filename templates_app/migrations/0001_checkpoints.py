from django.db import migrations

# The columns and primary keys that langgraph-checkpoint-postgres 3.2 works with; its SQL names no schema and no tenant.
# Its three indexes on thread_id are left out: each primary key begins with that column.
TABLES = {
    "checkpoints": """
        checkpoint_id text NOT NULL,
        parent_checkpoint_id text,
        type text,
        checkpoint jsonb NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}',
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
    """,
    "checkpoint_blobs": """
        channel text NOT NULL,
        version text NOT NULL,
        type text NOT NULL,
        blob bytea,
        PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
    """,
    "checkpoint_writes": """
        checkpoint_id text NOT NULL,
        task_id text NOT NULL,
        idx integer NOT NULL,
        channel text NOT NULL,
        type text,
        blob bytea NOT NULL,
        task_path text NOT NULL DEFAULT '',
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    """,
}

# Without the CHECK on thread_id a tenant could take the name of another's thread before its owner does.
CREATE = """
CREATE TABLE {name} (
    tenant_id uuid NOT NULL DEFAULT app_tenant() REFERENCES tenant (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    thread_id text NOT NULL CHECK (split_part(thread_id, ':', 1) = tenant_id::text),
    checkpoint_ns text NOT NULL DEFAULT '',
    {columns}
);
CREATE INDEX {name}_tenant ON {name} (tenant_id, thread_id);
ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {name} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {name} USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
"""
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s';"
FORWARDS = "".join(CREATE.format(name=name, columns=columns) for name, columns in TABLES.items())
BACKWARDS = "".join(f"DROP TABLE {name};" for name in TABLES)


class Migration(migrations.Migration):
    """Where LangGraph keeps the checkpoints of runs that are under way. Django has no models of these tables."""

    initial = True
    dependencies = [("core", "0001_tenancy"), ("tenants", "0001_initial")]
    operations = [migrations.RunSQL(LOCK_TIMEOUT + FORWARDS, LOCK_TIMEOUT + BACKWARDS)]
