"""Two look-ups come before the tenant is known; each is a function that returns exactly what was asked for.

They run as `app_owner`, which row-level security binds as well; these policies let it read, and only read.
"""

from django.db import migrations

FORWARDS = """
CREATE POLICY lookup ON tenant FOR SELECT TO app_owner USING (true);
CREATE POLICY lookup ON membership FOR SELECT TO app_owner USING (true);
CREATE POLICY lookup ON api_key FOR SELECT TO app_owner USING (true);

CREATE FUNCTION api_key_lookup(wanted text) RETURNS TABLE (
    id uuid, tenant_id uuid, tenant_slug text, tenant_status text, name text, secret_hash bytea,
    role text, scopes text[], expires_at timestamptz, revoked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT k.id, k.tenant_id, t.slug, t.status, k.name, k.secret_hash, k.role,
           ARRAY(SELECT jsonb_array_elements_text(k.scopes)), k.expires_at, k.revoked_at
    FROM api_key k JOIN tenant t ON t.id = k.tenant_id WHERE k.prefix = wanted
$$;

CREATE FUNCTION user_memberships(wanted uuid) RETURNS TABLE (
    tenant_id uuid, tenant_slug text, tenant_name text, tenant_status text, role text, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT t.id, t.slug, t.name, t.status, m.role, m.status
    FROM membership m JOIN tenant t ON t.id = m.tenant_id WHERE m.user_id = wanted ORDER BY t.slug
$$;

REVOKE EXECUTE ON FUNCTION api_key_lookup(text), user_memberships(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION api_key_lookup(text), user_memberships(uuid) TO app_user, app_ops;
"""

BACKWARDS = """
DROP FUNCTION user_memberships(uuid);
DROP FUNCTION api_key_lookup(text);
DROP POLICY lookup ON api_key;
DROP POLICY lookup ON membership;
DROP POLICY lookup ON tenant;
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
