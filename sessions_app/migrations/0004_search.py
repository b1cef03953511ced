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
# they have more than 300 kB of text. `loose` is what the index knows by itself; phrases and exclusions are checked on the
# newest `checked` of its hits, or on fewer that have 1 MB of text, and `hit` says how that ended. A last row with no `hit`
# says that older ones than its `id` are not checked yet.
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
    early uuid[] := '{}';
    each record;
    bytes int;
    work int := 0;
    looked int := 0;
    hits int := 0;
BEGIN
    IF numnode(closing) > 0 THEN
        -- A beginning of one letter would gather most words of all tenants.
        exact := exact && (closing::text || CASE WHEN closing::text ~ '[^'' ]{2}''$' THEN ':*' ELSE '' END)::tsquery;
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
        FOR each IN
            SELECT * FROM message  -- so written that only the index on (tenant_id, id) will do
            WHERE tenant_id >= app_tenant()
                AND (tenant_id, id) < (app_tenant(), coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY tenant_id DESC, id DESC LIMIT 200
        LOOP
            EXIT WHEN each.tenant_id <> app_tenant() OR work > 300000 OR cardinality(early) = most;
            CONTINUE WHEN each.replaced_by IS NOT NULL;
            work := work + coalesce(octet_length(message_text(each.content)), 0);
            IF message_words(each.tenant_id, each.session_id, each.content) @@ exact THEN
                early := early || each.id;
            END IF;
        END LOOP;
        IF cardinality(early) = most THEN
            RETURN QUERY SELECT unnest(early), true;
            RETURN;
        END IF;
        work := 0;
        PERFORM set_config('enable_indexscan', 'off', true);
    END IF;
    FOR each IN
        SELECT id FROM (
            SELECT id, tenant_id, replaced_by FROM message
            WHERE message_words(tenant_id, session_id, content) @@ (scope && loose) OFFSET 0
        ) AS found
        WHERE tenant_id = app_tenant() AND replaced_by IS NULL AND (before IS NULL OR id < before)
        ORDER BY id DESC LIMIT CASE WHEN exact::text = loose::text THEN most ELSE checked + 1 END
    LOOP
        EXIT WHEN hits = most;
        IF exact::text = loose::text THEN
            id := each.id;
            hit := true;
        ELSIF looked = checked OR work > 1000000 THEN
            hit := NULL;
            RETURN NEXT;
            RETURN;
        ELSE
            SELECT m.id, message_words(m.tenant_id, m.session_id, m.content) @@ exact,
                coalesce(octet_length(message_text(m.content)), 0) INTO id, hit, bytes
            FROM message AS m WHERE m.tenant_id = app_tenant() AND m.id = each.id;
            work := work + bytes;
            looked := looked + 1;
        END IF;
        hits := hits + hit::int;
        RETURN NEXT;
    END LOOP;
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
