"""Who has a socket open. Few rows, which live as long as the sockets of a process."""

from django.db import migrations, models

TABLES = """
CREATE TABLE socket_server (
    id uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON socket_server FROM app_user;
GRANT SELECT, INSERT, UPDATE, DELETE ON socket_server TO app_stream;

CREATE TABLE open_socket (
    tenant_id uuid NOT NULL,
    topic uuid NOT NULL,
    server uuid NOT NULL,
    kind varchar(16) NOT NULL,
    person_id uuid NOT NULL,
    label varchar(200) NOT NULL,
    role varchar(16) NOT NULL,
    typing_until timestamptz,
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, topic, server, kind, person_id)
) WITH (fillfactor = 50);
CREATE INDEX open_socket_server ON open_socket (server);
ALTER TABLE open_socket ENABLE ROW LEVEL SECURITY;
ALTER TABLE open_socket FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON open_socket TO app_owner, app_user, app_ops
    USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON open_socket TO app_stream;
CREATE POLICY stream ON open_socket TO app_stream USING (tenant_id = ANY ((SELECT app_tenants())::uuid[]));
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0005_statistics")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(TABLES, "DROP TABLE open_socket, socket_server")],
            state_operations=[
                migrations.CreateModel(
                    "SocketServer",
                    fields=[
                        ("id", models.UUIDField(primary_key=True, serialize=False)),
                        ("alive_until", models.DateTimeField()),
                    ],
                    options={"db_table": "socket_server"},
                ),
                migrations.CreateModel(
                    "OpenSocket",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "tenant_id",
                                "topic",
                                "server",
                                "kind",
                                "person_id",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("tenant_id", models.UUIDField()),
                        ("topic", models.UUIDField()),
                        ("server", models.UUIDField()),
                        ("kind", models.CharField(max_length=16)),
                        ("person_id", models.UUIDField()),
                        ("label", models.CharField(max_length=200)),
                        ("role", models.CharField(max_length=16)),
                        ("typing_until", models.DateTimeField(null=True)),
                        ("joined_at", models.DateTimeField()),
                    ],
                    options={"db_table": "open_socket"},
                ),
            ],
        ),
    ]
