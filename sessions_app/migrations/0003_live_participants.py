"""One look at the places of all sockets of a process in their sessions, whatever their tenants; as tenants/0004 does.

A place is a session and a person, or nobody for who has a right to all sessions.
"""

from django.db import migrations

FORWARDS = """
CREATE POLICY lookup ON chat_session FOR SELECT TO app_owner USING (true);
CREATE POLICY lookup ON session_participant FOR SELECT TO app_owner USING (true);

CREATE FUNCTION live_participants(sessions uuid[], kinds text[], persons uuid[]) RETURNS TABLE (
    session_id uuid, person_kind text, person_id uuid, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT asked.session_id, asked.person_kind, asked.person_id, p.role
    FROM unnest(sessions, kinds, persons) AS asked (session_id, person_kind, person_id)
    JOIN chat_session s ON s.id = asked.session_id
    LEFT JOIN session_participant p ON p.tenant_id = s.tenant_id AND p.session_id = s.id
        AND p.person_kind = asked.person_kind AND p.person_id = asked.person_id
$$;

REVOKE EXECUTE ON FUNCTION live_participants(uuid[], text[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION live_participants(uuid[], text[], uuid[]) TO app_user, app_ops;
"""
BACKWARDS = """
DROP FUNCTION live_participants(uuid[], text[], uuid[]);
DROP POLICY lookup ON session_participant;
DROP POLICY lookup ON chat_session;
"""


class Migration(migrations.Migration):
    dependencies = [("sessions_app", "0002_shared_sessions")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
