"""One look at the credentials of all sockets of a process, whatever their tenants; it runs as the functions of 0002 do."""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION live_principals(keys uuid[], users uuid[]) RETURNS TABLE (
    kind text, tenant_id uuid, id uuid, role text, tenant_status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT 'api_key', k.tenant_id, k.id, k.role, t.status
    FROM api_key k JOIN tenant t ON t.id = k.tenant_id
    WHERE k.id = ANY (keys) AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
    UNION ALL
    SELECT 'user', m.tenant_id, m.user_id, m.role, t.status
    FROM membership m JOIN tenant t ON t.id = m.tenant_id JOIN tenants_user u ON u.id = m.user_id
    WHERE m.user_id = ANY (users) AND m.status = 'active' AND u.is_active
$$;

REVOKE EXECUTE ON FUNCTION live_principals(uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION live_principals(uuid[], uuid[]) TO app_user, app_ops;
"""
BACKWARDS = "DROP FUNCTION live_principals(uuid[], uuid[])"


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_concurrent_runs")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
