from django.db import migrations

# The words of a message, by which the index finds it: those of its text, its tenant's id and its session's. No word of a
# text has a blank in it, as those two have. Characters of languages that write no blanks between words are words each.
# Beyond the first 50,000 characters a text is not searched: no vector of so many reaches PostgreSQL's limit of 1 MB.
WORDS = r"""
CREATE OR REPLACE FUNCTION message_text(content jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(CASE jsonb_typeof(content)
        WHEN 'string' THEN content #>> '{}'
        WHEN 'array' THEN (
            SELECT string_agg(part ->> 'text', E'\n')
            FROM jsonb_array_elements(content) AS part WHERE part ->> 'type' = 'text')
    END, 50000)
$$;

CREATE OR REPLACE FUNCTION message_words(tenant_id uuid, session_id uuid, content jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.array_to_tsvector(ARRAY['t ' || tenant_id::text, 's ' || session_id::text])
        || pg_catalog.to_tsvector('pg_catalog.simple', pg_catalog.regexp_replace(
            coalesce(public.message_text(content), ''),
            '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])', ' \1 ', 'g'))
$$;
"""

# `@@` is not leakproof: with row-level security, a statement of `app_user` may ask it of the tenant's rows only after
# these were read one by one. This function runs as `app_owner`, which the policy lets read messages, and only read; it
# names the tenant itself, as a word that every hit must have and once more in its WHERE. For a person it names their
# sessions.
#
# A word that many messages have is found among the newest, without the index, which knows no order: these are read until
# they have more than 300 kB. `loose` is what the index knows by itself; phrases and exclusions are checked on the newest
# `checked` of its hits, and `hit` says how that ended.
# The planner, which knows nothing of tenants' words, would walk all messages backwards for a rare one: it may not.
SEARCH = r"""
DROP POLICY IF EXISTS search ON message;
CREATE POLICY search ON message FOR SELECT TO app_owner USING (true);

CREATE OR REPLACE FUNCTION message_search(
    sought text, beginning text, person_kind text, person_id uuid, before uuid, most int, checked int
) RETURNS TABLE (id uuid, hit boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    scope tsquery := ('''t ' || app_tenant()::text || '''')::tsquery;
    exact tsquery := websearch_to_tsquery('simple', sought);
    closing tsquery := phraseto_tsquery('simple', beginning);
    loose tsquery;
    early uuid[];
BEGIN
    IF numnode(closing) > 0 THEN
        exact := exact && (closing::text || ':*')::tsquery;
    END IF;
    loose := nullif(regexp_replace(querytree(exact), '<(-|\d+)>', '&', 'g'), 'T')::tsquery;
    IF person_id IS NOT NULL THEN
        SELECT string_agg('''s ' || p.session_id::text || '''', '|')::tsquery INTO scope FROM (
            SELECT session_id FROM session_participant AS s
            WHERE s.tenant_id = app_tenant() AND s.person_kind = message_search.person_kind
                AND s.person_id = message_search.person_id ORDER BY s.id DESC LIMIT 10000) AS p;
    END IF;
    IF scope IS NULL OR loose IS NULL OR numnode(loose) = 0 THEN
        RETURN;
    END IF;
    IF person_id IS NULL THEN
        PERFORM set_config('enable_indexscan', 'on', true);
        WITH newest AS (
            SELECT *, sum(pg_column_size(content)) OVER (ORDER BY id DESC) AS size FROM (
                SELECT * FROM message  -- so written that only the index on (tenant_id, id) will do
                WHERE tenant_id >= app_tenant()
                    AND (tenant_id, id) < (app_tenant(), coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
                ORDER BY tenant_id DESC, id DESC LIMIT 200) AS latest
        ), hits AS (
            SELECT id FROM newest
            WHERE tenant_id = app_tenant() AND replaced_by IS NULL AND size < 300000
                AND message_words(tenant_id, session_id, content) @@ exact
            ORDER BY id DESC LIMIT most
        )
        SELECT array_agg(id ORDER BY id DESC) INTO early FROM hits;
        IF cardinality(early) = most THEN
            RETURN QUERY SELECT unnest(early), true;
            RETURN;
        END IF;
        PERFORM set_config('enable_indexscan', 'off', true);
    END IF;
    RETURN QUERY
        SELECT n.id, exact::text = loose::text OR (
            SELECT message_words(m.tenant_id, m.session_id, m.content) @@ exact
            FROM message AS m WHERE m.tenant_id = app_tenant() AND m.id = n.id)
        FROM (
            SELECT id FROM (
                SELECT id, tenant_id, replaced_by FROM message
                WHERE message_words(tenant_id, session_id, content) @@ (scope && loose) OFFSET 0
            ) AS found
            WHERE tenant_id = app_tenant() AND replaced_by IS NULL AND (before IS NULL OR id < before)
            ORDER BY id DESC LIMIT CASE WHEN exact::text = loose::text THEN most ELSE checked END
        ) AS n ORDER BY n.id DESC;
END
$$;

REVOKE EXECUTE ON FUNCTION message_search(text, text, text, uuid, uuid, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION message_search(text, text, text, uuid, uuid, int, int) TO app_user, app_ops;

CREATE OR REPLACE FUNCTION message_search_tidy() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT gin_clean_pending_list('message_search') $$;
REVOKE EXECUTE ON FUNCTION message_search_tidy() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION message_search_tidy() TO app_ops;
"""

NO_SEARCH = """
DROP FUNCTION message_search_tidy();
DROP FUNCTION message_search(text, text, text, uuid, uuid, int, int);
DROP POLICY search ON message;
"""

# Words are put on a list first, which each search reads. The job `sessions.tidy_search` sorts them in; where there is none
# of it, the writer that makes the list 4 MB long does.
INDEX = "CREATE INDEX CONCURRENTLY message_search ON message USING gin (message_words(tenant_id, session_id, content))"


class Migration(migrations.Migration):
    """Messages are written meanwhile. Where it is broken off it may begin again."""

    atomic = False
    dependencies = [("sessions_app", "0003_live_participants")]
    operations = [
        migrations.RunSQL(WORDS, "DROP FUNCTION message_words(uuid, uuid, jsonb); DROP FUNCTION message_text(jsonb)"),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS message_search", migrations.RunSQL.noop),
        migrations.RunSQL(INDEX, "DROP INDEX CONCURRENTLY IF EXISTS message_search"),
        migrations.RunSQL(SEARCH, NO_SEARCH),
    ]
