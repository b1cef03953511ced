"""A guest is looked at before the tenant is known, and again for as long as it has sockets; see 0002 and 0004.

`live_principals` of two arguments stays for servers of the version before.
"""

from django.db import migrations

FORWARDS = """
CREATE POLICY lookup ON guest FOR SELECT TO app_owner USING (true);
CREATE POLICY lookup ON publishable_key FOR SELECT TO app_owner USING (true);

CREATE FUNCTION guest_lookup(wanted uuid) RETURNS TABLE (
    id uuid, tenant_id uuid, tenant_slug text, tenant_status text, label text, expires_at timestamptz,
    is_revoked boolean, key_id uuid, agent text, origins text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT g.id, g.tenant_id, t.slug, t.status, g.label, g.expires_at,
           g.revoked_at IS NOT NULL OR k.revoked_at IS NOT NULL, k.id, k.agent,
           ARRAY(SELECT jsonb_array_elements_text(k.origins))
    FROM guest g JOIN tenant t ON t.id = g.tenant_id
    LEFT JOIN publishable_key k ON k.tenant_id = g.tenant_id AND k.id = g.key_id
    WHERE g.id = wanted
$$;

CREATE FUNCTION live_principals(keys uuid[], users uuid[], guests uuid[]) RETURNS TABLE (
    kind text, tenant_id uuid, id uuid, role text, tenant_status text, agent text, origins text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.kind, p.tenant_id, p.id, p.role, p.tenant_status, NULL, NULL FROM live_principals(keys, users) p
    UNION ALL
    SELECT 'guest', g.tenant_id, g.id, 'member', t.status, k.agent,
           ARRAY(SELECT jsonb_array_elements_text(k.origins))
    FROM guest g JOIN tenant t ON t.id = g.tenant_id
    LEFT JOIN publishable_key k ON k.tenant_id = g.tenant_id AND k.id = g.key_id
    WHERE g.id = ANY (guests) AND g.revoked_at IS NULL AND k.revoked_at IS NULL AND g.expires_at > now()
$$;

CREATE FUNCTION widget_origins() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT DISTINCT jsonb_array_elements_text(k.origins)
    FROM publishable_key k JOIN tenant t ON t.id = k.tenant_id
    WHERE k.revoked_at IS NULL AND t.status = 'active'
$$;

REVOKE EXECUTE ON FUNCTION guest_lookup(uuid), live_principals(uuid[], uuid[], uuid[]), widget_origins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guest_lookup(uuid), live_principals(uuid[], uuid[], uuid[]), widget_origins() TO app_user, app_ops;
"""
BACKWARDS = """
DROP FUNCTION widget_origins();
DROP FUNCTION live_principals(uuid[], uuid[], uuid[]);
DROP FUNCTION guest_lookup(uuid);
DROP POLICY lookup ON publishable_key;
DROP POLICY lookup ON guest;
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_guests")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
