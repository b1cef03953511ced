"""Statements that change somebody's database: all of one or nothing, and no more than is allowed."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from core.ids import uuid7
from core.validation import parse_config
from tests.toolsets.database.conftest import PASSWORDS, Shop, until
from tests.toolsets.database.hostile import losing, serving
from tests.toolsets.tools import Recorded
from toolsets.base import Risk, ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.database_writer.arguments import DatabaseWriterConfig
from toolsets.kinds.database_writer.toolset import DatabaseWriterToolset
from toolsets.ledger import Call, NoLedger, Reason
from toolsets.toolbox import GrantedToolset

TABLES = """
CREATE TABLE stock (
    id int PRIMARY KEY, name text, price numeric(10, 2), tags text[], facts jsonb, sold bool, at timestamptz
);
INSERT INTO stock (id, name) SELECT n, 'thing ' || n FROM generate_series(1, 50) AS n;
CREATE TABLE stock_log (id int REFERENCES stock ON DELETE CASCADE, what text);
INSERT INTO stock_log SELECT n, 'made' FROM generate_series(1, 50) AS n;
CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late VALUES (1);
CREATE FUNCTION make_many() RETURNS int LANGUAGE sql AS
    $$ INSERT INTO stock_log SELECT 1, 'many' FROM generate_series(1, 500); SELECT 1 $$;
GRANT ALL ON stock, stock_log, late TO clerk; GRANT CREATE ON SCHEMA public TO clerk;
"""
GONE = "DROP TABLE stock, stock_log, late CASCADE; DROP FUNCTION make_many; DROP TABLE IF EXISTS made, other"
STATE = "SELECT (SELECT array_agg(s ORDER BY id) FROM stock s)::text, (SELECT count(*) FROM stock_log)"


@dataclass
class Writer:
    config: DatabaseWriterConfig
    password: str = PASSWORDS["clerk"]

    async def execute(self, sql: str, *parameters: Any) -> dict[str, Any]:
        (tool,) = DatabaseWriterToolset().tools(self.config)
        context = ToolCallContext(uuid7(), toolset="shop", secrets={"password": self.password})
        arguments = tool.arguments.model_validate({"sql": sql, "parameters": list(parameters)})
        answer: dict[str, Any] = orjson.loads(await tool.call(arguments, context))
        return answer

    async def refused(self, sql: str, *parameters: Any) -> str:
        with pytest.raises(ToolError) as caught:
            await self.execute(sql, *parameters)
        assert self.password not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def stock(shop: Shop) -> Iterator[Shop]:
    shop.run(TABLES)
    yield shop
    deadline = time.monotonic() + 20
    while shop.sessions("clerk"):
        assert time.monotonic() < deadline, "A connection was left open."
        time.sleep(0.01)
    shop.run(GONE)


@pytest.fixture
def make(stock: Shop) -> Callable[..., Writer]:
    def made(**config: Any) -> Writer:
        fields = {"host": "127.0.0.1", "port": stock.cluster.port, "database": "shop", "sslmode": "disable"}
        return Writer(DatabaseWriterConfig(**{**fields, "user": "clerk", **config}))

    return made


@pytest.fixture
def writer(make: Callable[..., Writer]) -> Writer:
    return make()


@pytest.fixture
def unchanged(stock: Shop) -> Iterator[None]:
    before = stock.run(STATE)
    yield
    assert stock.run(STATE) == before


async def test_a_change_is_committed_and_counted(stock: Shop, writer: Writer) -> None:
    assert await writer.execute("UPDATE stock SET price = 5 WHERE id <= 3;") == {"affected_rows": 3}
    assert stock.run("SELECT count(*) FROM stock WHERE price = 5") == [(3,)]
    assert await writer.execute("DELETE FROM stock WHERE id = 999") == {"affected_rows": 0}
    merge = "MERGE INTO stock s USING (VALUES (1), (99)) AS n (id) ON s.id = n.id "
    merge += "WHEN MATCHED THEN UPDATE SET name = 'merged' WHEN NOT MATCHED THEN INSERT (id) VALUES (n.id)"
    assert await writer.execute(merge) == {"affected_rows": 2}
    assert stock.run("SELECT name FROM stock WHERE id = 1") == [("merged",)]
    cascade = await writer.execute("DELETE FROM stock WHERE id = 2")
    assert cascade == {"affected_rows": 1, "changed_in_all": 2}
    query = await writer.execute("WITH gone AS (DELETE FROM late RETURNING id) SELECT count(*) FROM gone")
    assert (query["affected_rows"], query["changed_in_all"], query["rows"]) == (0, 1, [[1]])
    seen = await writer.execute("SELECT n FROM generate_series(1, 500) AS n")
    assert (seen["affected_rows"], len(seen["rows"])) == (0, 200)


async def test_parameters_are_values_and_never_sql(stock: Shop, writer: Writer) -> None:
    hostile = "x'); DROP TABLE stock; --"
    sql = "INSERT INTO stock VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *"
    answer = await writer.execute(sql, 60, hostile, 1.5, '{a,"b c"}', '{"k": [1]}', True, "2024-02-29T12:00:00Z")
    assert [column["type"] for column in answer["columns"]][2:5] == ["numeric(10,2)", "text[]", "jsonb"]
    assert answer["rows"] == [[60, hostile, 1.50, '{a,"b c"}', {"k": [1]}, True, "2024-02-29 12:00:00+00"]]
    assert answer["affected_rows"] == 1
    nothing = await writer.execute("UPDATE stock SET name = $1 WHERE id = $2 RETURNING name, sold", None, "60")
    assert nothing["rows"] == [[None, True]]
    assert stock.run("SELECT count(*) FROM stock WHERE id = 60") == [(1,)]


@pytest.mark.parametrize("parameters", [[], [1, 2]])
async def test_each_parameter_is_given(writer: Writer, unchanged: None, parameters: list[Any]) -> None:
    refused = await writer.refused("UPDATE stock SET name = 'x' WHERE id = $1", *parameters)
    assert refused == f"The statement has 1 parameters, and {len(parameters)} were given. Nothing was changed."


async def test_what_parameters_may_be(writer: Writer) -> None:
    for wrong in ({"a": 1}, [1], "a\0b"):
        with pytest.raises(ValidationError):
            await writer.execute("UPDATE stock SET name = $1", wrong)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE stock SET name = 'x'",
        "UPDATE stock SET name = 'x' RETURNING *",
        "DELETE FROM stock WHERE id <= 6",  # and as many of the log
        "WITH gone AS (DELETE FROM stock RETURNING id) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM stock RETURNING id) DELETE FROM late",
        "SELECT make_many()",
    ],
)
async def test_who_would_change_too_much_changes_nothing(
    make: Callable[..., Writer], unchanged: None, sql: str
) -> None:
    refused = await make(max_affected=10).refused(sql)
    assert "more than 10 rows, this toolset's max_affected. Nothing was changed." in refused


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "SET ROLE other",
        "COPY stock TO STDOUT",
        "COPY stock FROM PROGRAM 'echo 9'",
        "DO $$ BEGIN DELETE FROM stock; END $$",
        "CALL nothing()",
        "VACUUM stock",
        "LOCK stock",
        "NOTIFY a",
        "GRANT ALL ON stock TO other",
        "PREPARE TRANSACTION 'a'",
        "EXPLAIN ANALYZE DELETE FROM stock",
        "SELECT * INTO made FROM stock",
        "/* a comment */ DROP TABLE stock_log",
        "DELETE FROM stock; DROP TABLE stock_log",
        "UPDATE stock SET name = 'x'; COMMIT; SELECT 1",
        "DELETE FROM stock WHERE id = 1; DELETE FROM stock WHERE id = 2",
        "(int) AS DELETE FROM stock",
        "",
    ],
)
async def test_what_is_no_single_change_is_refused(writer: Writer, unchanged: None, sql: str) -> None:
    assert (await writer.refused(sql or " ")).endswith("Nothing was changed.")


@pytest.mark.parametrize(
    "sql", ["DROP TABLE stock_log", " create table made (x int)", "TRUNCATE stock_log", "Alter Table stock ADD y int"]
)
async def test_ddl_is_refused_unless_allowed(writer: Writer, unchanged: None, sql: str) -> None:
    assert await writer.refused(sql) == "This toolset runs no DDL; its allow_ddl allows that. Nothing was changed."


async def test_ddl_where_it_is_allowed(stock: Shop, make: Callable[..., Writer]) -> None:
    writer = make(allow_ddl=True)
    assert await writer.execute("CREATE TABLE made (x int)") == {"done": True}
    assert stock.run("SELECT count(*) FROM made") == [(0,)]
    two = await writer.refused("CREATE TABLE other (x int); COMMIT; DROP TABLE made")
    assert two.startswith("cannot insert multiple commands")
    assert "takes no parameters" in await writer.refused("DROP TABLE $1", "made")
    assert (await writer.refused("DROP TABLE stock")).startswith("must be owner of table stock")
    assert (await writer.refused("CREATE DATABASE other")).endswith("Nothing was changed.")
    assert stock.run("SELECT to_regclass('other') IS NULL, to_regclass('made') IS NOT NULL") == [(True, True)]


async def test_faults_of_the_server_are_told(stock: Shop, writer: Writer, unchanged: None) -> None:
    refused = await writer.refused("INSERT INTO stock (id) VALUES (1)")
    assert refused.startswith("duplicate key value violates unique constraint")
    assert refused.endswith("Nothing was changed.")
    deferred = await writer.refused("INSERT INTO late VALUES (1)")  # found by the COMMIT
    assert deferred.startswith("duplicate key value")
    assert deferred.endswith("Nothing was changed.")
    assert "permission denied" in await writer.refused("DELETE FROM customer")
    assert stock.run("SELECT count(*) FROM late") == [(1,)]


async def test_what_is_returned_is_cut_and_the_rows_are_counted(make: Callable[..., Writer]) -> None:
    answer = await make(max_rows=2).execute("UPDATE stock SET name = 'x' RETURNING id, name")
    assert (answer["affected_rows"], len(answer["rows"])) == (50, 2)
    assert "Return less, or have the toolset's max_rows (now 2) raised." in answer["note"]
    long = await make(max_bytes=1000).execute("UPDATE stock SET name = repeat('y', 5000) WHERE id = 1 RETURNING name")
    assert long["rows"][0][0].endswith("…")


async def test_a_row_that_cannot_be_shown_is_not_made(make: Callable[..., Writer], unchanged: None) -> None:
    cells = ", ".join(f"repeat(chr(1), 500) AS c{number}" for number in range(20))
    refused = await make(max_bytes=2000).refused(f"UPDATE stock SET name = 'x' WHERE id = 1 RETURNING {cells}")
    assert refused == "One row has over 2,000 bytes: select fewer columns. Nothing was changed."


async def test_a_statement_has_its_time(make: Callable[..., Writer], unchanged: None) -> None:
    refused = await make(statement_timeout=1).refused("UPDATE stock SET name = pg_sleep(60)::text WHERE id = 1")
    assert "within 1 s" in refused
    assert refused.endswith("Nothing was changed.")


async def test_a_cancelled_change_ends_at_the_server(stock: Shop, writer: Writer, unchanged: None) -> None:
    task = asyncio.create_task(writer.execute("UPDATE stock SET name = pg_sleep(60)::text WHERE id = 1"))
    await until(lambda: any("pg_sleep" in query for _, query in stock.sessions("clerk")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: stock.sessions("clerk") == [])


async def test_a_login_that_no_transaction_holds_is_refused(stock: Shop, writer: Writer, unchanged: None) -> None:
    stock.run("GRANT pg_signal_backend TO clerk")
    try:
        refused = await writer.refused("DELETE FROM stock")
    finally:
        stock.run("REVOKE pg_signal_backend FROM clerk")
    assert "is a member of pg_signal_backend, which a transaction does not hold" in refused


async def test_a_lost_answer_to_the_commit_is_unknown(stock: Shop, make: Callable[..., Writer]) -> None:
    with serving(losing(b"COMMIT", stock.cluster.port)) as port:
        refused = await make(port=port).refused("UPDATE stock SET name = 'lost' WHERE id = 1")
    assert "may have been made or not" in refused
    assert "Nothing was changed" not in refused
    assert stock.run("SELECT name FROM stock WHERE id = 1") == [("lost",)]


async def test_a_connection_that_breaks_before_the_commit_changed_nothing(
    stock: Shop, make: Callable[..., Writer], unchanged: None
) -> None:
    with serving(losing(b"UPDATE stock", stock.cluster.port)) as port:
        refused = await make(port=port).refused("UPDATE stock SET name = 'lost' WHERE id = 1")
    assert refused.endswith("Nothing was changed.")
    await until(lambda: stock.sessions("clerk") == [])


class Denying(NoLedger):
    async def approve(self, call: Call, reason: Reason) -> str | None:
        raise ToolError(f"A person denied {call.tool}.")


async def test_it_asks_a_person_and_is_made_one_by_one(writer: Writer, unchanged: None) -> None:
    (tool,) = DatabaseWriterToolset().tools(parse_config(DatabaseWriterConfig, writer.config.model_dump()))
    assert (tool.risk, tool.parallel, tool.approval, tool.once) == (Risk.WRITE, False, True, True)
    toolbox = Recorded(GrantedToolset("shop", "1", [tool], secrets={"password": writer.password}))
    toolbox._ledger = Denying()
    assert await toolbox.ask("execute", '{"sql": "DELETE FROM stock"}') == "A person denied execute."
