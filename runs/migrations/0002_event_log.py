"""The durable event log: events partitioned by the day of their run, a lease for every run that is not finished.

See docs/adr/009-event-log.md. Rows of the former table are copied both ways.
"""

import core.ids
import core.rls
import django.db.models.deletion
import runs.models
from django.db import migrations, models

from core.rls import EnableRLS

# For servers of the release before, which do not name these columns.
DEFAULTS = """
ALTER TABLE run ALTER day SET DEFAULT (now() AT TIME ZONE 'UTC')::date, ALTER attempt SET DEFAULT 1,
    ALTER request SET DEFAULT '{}';
"""

LEASE = """
CREATE TABLE run_lease (
    run_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    status varchar(16) NOT NULL,
    owner uuid,
    fence integer NOT NULL,
    last_seq integer NOT NULL,
    lease_until timestamptz NOT NULL,
    watched_until timestamptz NOT NULL DEFAULT 'epoch',
    cancel_requested boolean NOT NULL DEFAULT false,
    FOREIGN KEY (tenant_id, run_id) REFERENCES run (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE run_lease IS 'no tenant index: read by run; a row for each run that is not finished';
ALTER TABLE run_lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_lease FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_lease TO app_owner, app_user, app_ops
    USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
"""

EVENT = """
CREATE TABLE run_event (
    at_ms bigint NOT NULL,
    day date NOT NULL,
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    fence integer NOT NULL,
    type varchar(40) NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (run_id, seq, day)
) PARTITION BY RANGE (day);
COMMENT ON TABLE run_event IS 'no tenant index: read by run';
ALTER TABLE run_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_event TO app_owner, app_user, app_ops
    USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());

-- No foreign key binds an event to its run: it would cost as much as the insert. Deleting a run deletes its events.
CREATE FUNCTION run_event_of_deleted_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM run_event WHERE run_id = OLD.id AND day = OLD.day;
    RETURN NULL;
END $$;
CREATE TRIGGER run_event_of_deleted_run AFTER DELETE ON run
    FOR EACH ROW EXECUTE FUNCTION run_event_of_deleted_run();
"""

# The writer serves many tenants in one transaction: it names them all in a setting. The policy of the others is not for
# it: asking both for each row would double the cost of an event, as would a cast that is not done once for all rows.
STREAM = """
CREATE FUNCTION app_tenants() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT coalesce(NULLIF(current_setting('app.tenant_ids', true), ''), '{}')::uuid[] $$;
GRANT SELECT ON run_lease TO app_stream;
GRANT UPDATE (last_seq, lease_until, watched_until) ON run_lease TO app_stream;
GRANT SELECT, INSERT ON run_event TO app_stream;
CREATE POLICY stream ON run_lease TO app_stream USING (tenant_id = ANY ((SELECT app_tenants())::uuid[]));
CREATE POLICY stream ON run_event TO app_stream USING (tenant_id = ANY ((SELECT app_tenants())::uuid[]));
"""

# Partitions are reached through their parent only. ATTACH, unlike CREATE … PARTITION OF, does not stop the writers.
PARTITIONS = """
CREATE FUNCTION run_event_add_day(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE part text := 'run_event_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF wanted NOT BETWEEN current_date - 2 AND current_date + 31 THEN
        RAISE EXCEPTION 'events of % have no place: only days from two days ago to a month ahead', wanted;
    END IF;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('run_event_add_day'));
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE run_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
    EXECUTE format('REVOKE ALL ON %I FROM app_user, app_ops', part);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
    EXECUTE format('COMMENT ON TABLE %I IS %L', part, 'no tenant index: read by run');
    EXECUTE format('ALTER TABLE run_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, wanted, wanted + 1);
END $$;

CREATE FUNCTION run_event_drop_days(before date) RETURNS SETOF date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE part text;
BEGIN
    FOR part IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'run_event'::regclass
        AND to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') < before ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        RETURN NEXT to_date(right(part, 8), 'YYYYMMDD');
    END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION run_event_add_day(date), run_event_drop_days(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION run_event_add_day(date) TO app_user, app_ops;
GRANT EXECUTE ON FUNCTION run_event_drop_days(date) TO app_ops;
"""

# The policies bind the owner as well: they are lifted for the copy, within this transaction.
COPY_IN = """
ALTER TABLE run NO FORCE ROW LEVEL SECURITY;
ALTER TABLE run_event_before NO FORCE ROW LEVEL SECURITY;
ALTER TABLE run_event NO FORCE ROW LEVEL SECURITY;
UPDATE run SET day = (created_at AT TIME ZONE 'UTC')::date;
-- Nobody has a lease of them: their server was stopped for this migration, or died before.
UPDATE run SET status = 'expired', finished_at = now(), error_code = 'run_lost',
    error_message = 'The process that ran it ended.' WHERE finished_at IS NULL;
DO $$
DECLARE wanted date;
BEGIN
    FOR wanted IN SELECT DISTINCT day FROM run WHERE id IN (SELECT run_id FROM run_event_before) LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF run_event FOR VALUES FROM (%L) TO (%L)',
                       'run_event_' || to_char(wanted, 'YYYYMMDD'), wanted, wanted + 1);
        EXECUTE format('REVOKE ALL ON %I FROM app_user, app_ops', 'run_event_' || to_char(wanted, 'YYYYMMDD'));
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', 'run_event_' || to_char(wanted, 'YYYYMMDD'));
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', 'run_event_' || to_char(wanted, 'YYYYMMDD'));
        EXECUTE format('COMMENT ON TABLE %I IS %L', 'run_event_' || to_char(wanted, 'YYYYMMDD'),
                       'no tenant index: read by run');
    END LOOP;
END $$;
INSERT INTO run_event (at_ms, day, tenant_id, run_id, seq, fence, type, data)
    SELECT (e.data ->> 'timestamp')::bigint, r.day, e.tenant_id, e.run_id, e.seq, 1, e.type,
        e.data - '{type,timestamp}'::text[]
    FROM run_event_before e JOIN run r ON r.id = e.run_id;
ALTER TABLE run_event FORCE ROW LEVEL SECURITY;
ALTER TABLE run FORCE ROW LEVEL SECURITY;
DROP TABLE run_event_before;
SELECT run_event_add_day(current_date), run_event_add_day(current_date + 1);
"""

COPY_BACK = """
CREATE TABLE run_event_before (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    seq integer NOT NULL CHECK (seq >= 0),
    at timestamptz NOT NULL,
    type varchar(40) NOT NULL,
    data jsonb NOT NULL,
    run_id uuid NOT NULL,
    tenant_id uuid NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT run_event_seq UNIQUE (tenant_id, run_id, seq),
    CONSTRAINT run_event_tenant_key UNIQUE (tenant_id, id)
);
ALTER TABLE run_event NO FORCE ROW LEVEL SECURITY;
INSERT INTO run_event_before (id, created_at, seq, at, type, data, run_id, tenant_id)
    SELECT gen_random_uuid(), now(), seq, to_timestamp(at_ms / 1e3), type,
        jsonb_build_object('type', type, 'timestamp', at_ms) || data, run_id, tenant_id
    FROM run_event;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE run_event_before ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_event_before FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_event_before USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
"""
# Its foreign key waits until the new table's name is free; Django's reverse operations look for it.
RENAME = "SET LOCAL lock_timeout = '5s'; ALTER TABLE run_event RENAME TO run_event_before;"
RENAME += " ALTER INDEX IF EXISTS run_event_pkey RENAME TO run_event_before_pkey;"
RENAME_BACK = """
ALTER TABLE run_event_before RENAME TO run_event;
ALTER TABLE run_event ADD CONSTRAINT run_event_run_id_tenant_fk FOREIGN KEY (tenant_id, run_id)
    REFERENCES run (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0001_initial"),
        ("tenants", "0002_lookups"),
    ]

    operations = [
        migrations.RunSQL(RENAME, RENAME_BACK),
        migrations.AddField("run", "day", models.DateField(default=runs.models.utc_today, editable=False)),
        migrations.AddField("run", "attempt", models.PositiveSmallIntegerField(default=1)),
        migrations.AddField("run", "request", models.JSONField(default=dict)),
        migrations.AddField("run", "context_seq", models.PositiveIntegerField(null=True)),
        migrations.AddField("run", "compacted_at", models.DateTimeField(null=True)),
        migrations.AddIndex(
            "run",
            models.Index(
                fields=["tenant", "session", "created_at"],
                condition=models.Q(finished_at=None),
                name="run_open",
            ),
        ),
        migrations.AddIndex(
            "run",
            models.Index(fields=["finished_at"], condition=models.Q(compacted_at=None), name="run_not_compacted"),
        ),
        migrations.RunSQL(DEFAULTS, migrations.RunSQL.noop),
        migrations.RunSQL(LEASE, "DROP TABLE run_lease"),
        migrations.RunSQL(
            EVENT,
            "DROP TRIGGER run_event_of_deleted_run ON run; DROP FUNCTION run_event_of_deleted_run; DROP TABLE run_event",
        ),
        migrations.RunSQL(
            STREAM,
            "DROP POLICY stream ON run_event; DROP POLICY stream ON run_lease; DROP FUNCTION app_tenants()",
        ),
        migrations.RunSQL(
            PARTITIONS, "DROP FUNCTION run_event_drop_days(date); DROP FUNCTION run_event_add_day(date)"
        ),
        migrations.RunSQL(COPY_IN, COPY_BACK),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel("RunEvent"),
                migrations.CreateModel(
                    "RunEvent",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "run_id", "seq", "day", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("at_ms", models.BigIntegerField()),
                        ("day", models.DateField()),
                        ("tenant_id", models.UUIDField()),
                        ("run_id", models.UUIDField()),
                        ("seq", models.PositiveIntegerField()),
                        ("fence", models.PositiveIntegerField()),
                        ("type", models.CharField(max_length=40)),
                        ("data", models.JSONField()),
                    ],
                    options={"db_table": "run_event", "ordering": ["seq"]},
                ),
                migrations.CreateModel(
                    "RunLease",
                    fields=[
                        ("run_id", models.UUIDField(primary_key=True, serialize=False)),
                        ("tenant_id", models.UUIDField()),
                        ("day", models.DateField()),
                        ("status", models.CharField(max_length=16, choices=[("queued", "Queued"), ("running", "Running"), ("waiting", "Waiting"), ("succeeded", "Succeeded"), ("failed", "Failed"), ("cancelled", "Cancelled"), ("expired", "Expired")])),
                        ("owner", models.UUIDField(null=True)),
                        ("fence", models.PositiveIntegerField()),
                        ("last_seq", models.PositiveIntegerField()),
                        ("lease_until", models.DateTimeField()),
                        ("watched_until", models.DateTimeField()),
                        ("cancel_requested", models.BooleanField(default=False)),
                    ],
                    options={"db_table": "run_lease"},
                ),
            ],
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("key", models.CharField(max_length=255)),
                ("body_hash", models.BinaryField(max_length=32)),
                (
                    "run",
                    core.rls.TenantForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="idempotency_keys", to="runs.run"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={"db_table": "idempotency_key"},
        ),
        migrations.AddConstraint(
            "idempotencykey", models.UniqueConstraint(fields=["tenant", "key"], name="idempotency_key_once")
        ),
        EnableRLS("IdempotencyKey"),
    ]
