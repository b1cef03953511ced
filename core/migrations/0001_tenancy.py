from django.db import migrations

FORWARDS = """
CREATE FUNCTION app_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid $$;
GRANT USAGE ON SCHEMA public TO app_user, app_ops;
GRANT SELECT ON django_migrations TO app_user, app_ops;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_user, app_ops;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO app_user, app_ops;
"""

BACKWARDS = """
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE USAGE, SELECT ON SEQUENCES FROM app_user, app_ops;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT, INSERT, UPDATE, DELETE ON TABLES FROM app_user, app_ops;
REVOKE SELECT ON django_migrations FROM app_user, app_ops;
REVOKE USAGE ON SCHEMA public FROM app_user, app_ops;
DROP FUNCTION app_tenant();
"""


class Migration(migrations.Migration):
    """Runs before every table exists, so that the default privileges reach them all."""

    initial = True
    run_before = [
        ("contenttypes", "0001_initial"),
        ("procrastinate", "0001_initial"),
    ]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
