"""What may not happen in somebody's database, and that nothing goes on there."""

import asyncio
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.toolsets.database.conftest import Database, Shop, until
from toolsets.exceptions import ToolError

Toolset = Callable[..., Database]
STATE = """
SELECT (SELECT array_agg(c ORDER BY id) FROM customer c)::text, (SELECT (last_value, is_called) FROM tickets)::text,
       (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_class),
       (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_roles), current_setting('work_mem')
"""


@pytest.fixture
def unchanged(shop: Shop) -> Iterator[None]:
    before = shop.run(STATE)
    yield
    assert shop.run(STATE) == before
    shop.until_left()


async def refused(database: Database, sql: str) -> str:
    with pytest.raises(ToolError) as caught:
        await database.query(sql)
    return str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO customer (name) VALUES ('Eve')",
        "UPDATE customer SET name = 'Eve'",
        "DELETE FROM customer",
        "TRUNCATE customer",
        "DROP TABLE customer",
        "CREATE TEMP TABLE t (x int)",
        "MERGE INTO customer c USING customer d ON false WHEN NOT MATCHED THEN INSERT (name) VALUES ('Eve')",
        "SET TRANSACTION READ WRITE",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE other",
        "RESET ALL",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "COMMIT; DROP TABLE customer",
        "ROLLBACK; DELETE FROM customer",
        "SELECT 1; DELETE FROM customer",
        "SELECT 1 \\; DELETE FROM customer",
        "SELECT 1) AS q(c0); DELETE FROM customer; SELECT (2",
        "DO $$ BEGIN DELETE FROM customer; END $$",
        "CALL nothing()",
        "PREPARE p AS DELETE FROM customer",
        "EXECUTE p",
        "LISTEN a",
        "NOTIFY a",
        "LOCK customer",
        "VACUUM customer",
        "ANALYZE customer",
        "CHECKPOINT",
        "DISCARD ALL",
        "FETCH ALL FROM question",
        "DECLARE c CURSOR FOR SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM customer",
        "COPY customer TO PROGRAM 'touch /tmp/copied'",
        "COPY customer FROM PROGRAM 'echo 9'",
        "COPY customer TO STDOUT",
        "COPY customer FROM STDIN",
        "COPY (SELECT 1) TO '/tmp/copied'",
        "ALTER ROLE reader SUPERUSER",
        "GRANT other TO reader",
    ],
)
async def test_what_is_no_query_is_refused(reader: Database, unchanged: None, sql: str) -> None:
    assert "One SELECT, WITH, VALUES or TABLE query can run here" in await refused(reader, sql)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("WITH gone AS (DELETE FROM customer RETURNING *) SELECT * FROM gone", "data-modifying"),
        ("SELECT * INTO taken FROM customer", "INTO"),
        ("SELECT * FROM customer FOR UPDATE", "read-only transaction"),
        ("SELECT nextval('tickets')", "read-only transaction"),
        ("SELECT setval('tickets', 99)", "read-only transaction"),
        ("SELECT add_customer()", "read-only transaction"),
        ("SELECT unlocked()", "read-write mode"),
        ("SELECT committed()", "invalid transaction termination"),
        ("SELECT set_config('transaction_read_only', 'off', true), add_customer()", "read-write mode"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("SELECT set_config('session_authorization', 'postgres', false)", "permission denied"),
        ("SELECT set_config('role', 'postgres', false)", "permission denied"),
        ("SELECT lo_create(0)", "read-only transaction"),
        ("SELECT lo_from_bytea(0, 'x')", "read-only transaction"),
        ("SELECT lo_import('/etc/passwd')", "permission denied"),
        ("SELECT lo_export(1, '/tmp/exported')", "permission denied"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SELECT pg_ls_dir('/')", "permission denied"),
        ("SELECT pg_reload_conf()", "permission denied"),
        ("SELECT pg_create_physical_replication_slot('slot')", "permission denied"),
        ("SELECT query_to_xml('DELETE FROM customer', true, true, '')", "non-volatile"),
        ("SELECT dblink_exec('dbname=shop', 'DELETE FROM customer')", "does not exist"),
        ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'", "permission denied"),
    ],
)
async def test_functions_with_side_effects_are_refused(
    shop: Shop, reader: Database, unchanged: None, sql: str, words: str
) -> None:
    with psycopg.connect(shop.admin_url):
        assert words in await refused(reader, sql)


async def test_settings_last_no_longer_than_their_call(reader: Database, unchanged: None) -> None:
    sql = "SELECT set_config('default_transaction_read_only', 'off', false), set_config('work_mem', '99MB', false)"
    assert await reader.rows(sql) == [["off", "99MB"]]
    sql = "SELECT current_setting('default_transaction_read_only'), current_setting('transaction_read_only')"
    assert await reader.rows(sql) == [["on", "on"]]
    assert "read-only" in await refused(reader, "SELECT add_customer()")


async def test_a_notification_is_never_sent_and_a_lock_never_kept(
    shop: Shop, reader: Database, unchanged: None
) -> None:
    with psycopg.connect(shop.admin_url, autocommit=True) as listener:
        listener.execute("LISTEN bell")
        assert await reader.rows("SELECT pg_notify('bell', 'x'), pg_advisory_lock(7)") == [["", ""]]
        assert list(listener.notifies(timeout=0.3)) == []
        assert listener.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (True,)


async def test_a_login_can_end_its_own_sessions_only(shop: Shop, reader: Database, toolset: Toolset) -> None:
    sleeping = asyncio.create_task(reader.query("SELECT pg_sleep(20)"))
    await until(lambda: any("q(c0)" in query for _, query in shop.sessions()))
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader' AND pid <> pg_backend_pid()"
    )
    assert "permission denied" in await refused(toolset("other"), ended)
    assert await reader.rows(ended) == [[True]]
    with pytest.raises(ToolError, match="terminating connection due to administrator command"):
        await sleeping


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ("ALTER ROLE grave SUPERUSER", "is a superuser"),
        ("GRANT postgres TO grave", "is a superuser, or may become one"),
        ("ALTER ROLE grave NOINHERIT; GRANT postgres TO grave", "is a superuser, or may become one"),
        ("ALTER ROLE grave REPLICATION", "may replicate"),
        ("GRANT pg_execute_server_program TO grave", "is a member of pg_execute_server_program"),
        ("GRANT pg_read_server_files TO grave", "is a member of pg_read_server_files"),
        ("GRANT pg_write_server_files TO grave", "is a member of pg_write_server_files"),
        ("GRANT pg_signal_backend TO grave", "is a member of pg_signal_backend"),
        ("GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO grave", "may execute lo_export(oid,text)"),
        ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO grave", "may execute pg_read_file(text)"),
        # What the extension of that name brings, which reaches other transactions with a password or a stored one.
        (
            "CREATE SCHEMA away; CREATE FUNCTION away.dblink_exec(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
            "may execute away.dblink_exec(text)",
        ),
    ],
)
async def test_logins_that_a_read_only_transaction_does_not_hold_are_refused(
    shop: Shop, toolset: Toolset, rights: str, words: str
) -> None:
    shop.run("CREATE ROLE grave LOGIN PASSWORD 'grave-password'")
    grave = toolset("grave", "grave-password")
    assert await grave.rows("SELECT 1") == [[1]]
    shop.run(rights)
    try:
        for tool, arguments in (("query", {"sql": "SELECT 1"}), ("explain", {"sql": "SELECT 1"}), ("list_tables", {})):
            with pytest.raises(ToolError) as caught:
                await grave.ask(tool, **arguments)
            assert words in str(caught.value)
            assert "a role that may only read its tables" in str(caught.value)
    finally:
        shop.run("DROP SCHEMA IF EXISTS away CASCADE; DROP OWNED BY grave; DROP ROLE grave")


BUSY = "SELECT count(*) FROM generate_series(1, 100000000000)"


@pytest.mark.parametrize("sql", ["SELECT pg_sleep(60)", "SELECT generate_series(1, 2), pg_sleep(60)", BUSY])
async def test_a_slow_query_is_ended_at_the_server(shop: Shop, toolset: Toolset, sql: str, unchanged: None) -> None:
    began = time.monotonic()
    assert "did not finish within 1 s" in await refused(toolset(statement_timeout=1), sql)
    assert time.monotonic() - began < 2.5
    shop.until_left()


async def test_a_query_cannot_take_its_timeouts_away(toolset: Toolset, unchanged: None) -> None:
    names = ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"]
    without = ", ".join(f"set_config('{name}', '0', false)" for name in names)
    sql = f"SELECT {without}, generate_series(1, 1000), pg_sleep(0.1)"
    assert "did not finish within 1 s" in await refused(toolset(statement_timeout=1), sql)


@pytest.mark.parametrize("sql", ["SELECT pg_sleep(60)", BUSY])
async def test_a_server_without_timeouts_is_stopped_from_here(
    toolset: Toolset, monkeypatch: pytest.MonkeyPatch, unchanged: None, sql: str
) -> None:
    monkeypatch.setattr("toolsets.kinds.database.session._settings", lambda connection, seconds: {})
    monkeypatch.setattr("toolsets.kinds.database.session.GRACE", 0.5)
    began = time.monotonic()
    assert "did not finish within 1 s" in await refused(toolset(statement_timeout=1), sql)
    assert 1.4 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    "sql", ["SELECT pg_sleep(60)", BUSY, "SELECT g, pg_sleep(0.01) FROM generate_series(1, 9999) g"]
)
@pytest.mark.parametrize("tool", ["query", "explain"])
async def test_a_cancelled_run_ends_its_query_at_the_server(
    shop: Shop, toolset: Toolset, tool: str, sql: str, unchanged: None
) -> None:
    if tool == "explain":  # the planner runs what it takes for constant
        shop.run(
            "CREATE OR REPLACE FUNCTION slow() RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(60); RETURN 1; END $$"
        )
        sql = "SELECT slow()"
    call = asyncio.create_task(toolset().ask(tool, sql=sql))
    await until(lambda: any(state == "active" for state, _ in shop.sessions()))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.monotonic() - began < 1
    shop.until_left()


async def test_a_lock_is_not_waited_for_long(
    shop: Shop, toolset: Toolset, monkeypatch: pytest.MonkeyPatch, unchanged: None
) -> None:
    monkeypatch.setattr("toolsets.kinds.database.session.LOCK_TIMEOUT", 1)
    with psycopg.connect(shop.admin_url) as holder:
        holder.execute("LOCK customer IN ACCESS EXCLUSIVE MODE")
        assert "lock timeout" in await refused(toolset(), "SELECT * FROM customer")
        holder.rollback()


async def test_the_loop_goes_on_while_the_database_works(reader: Database) -> None:
    call = asyncio.create_task(reader.query("SELECT count(*) FROM generate_series(1, 3000000)"))
    worst, last = 0.0, time.monotonic()
    while not call.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        worst, last = max(worst, now - last), now
    assert (await call)["rows"] == [[3_000_000]]
    assert worst < 0.2
