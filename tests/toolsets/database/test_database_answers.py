"""What the tools answer."""

import json
import resource
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.toolsets.database.conftest import Database, Shop
from toolsets.exceptions import ToolError

Toolset = Callable[..., Database]


async def test_rows_with_names_and_types(reader: Database) -> None:
    answer = await reader.query("SELECT id, name, since AS name FROM customer ORDER BY id DESC;")
    assert answer == {
        "columns": [
            {"name": "id", "type": "integer"},
            {"name": "name", "type": "text"},
            {"name": "name", "type": "date"},
        ],
        "rows": [[3, "Linus", None], [2, "Grace", "infinity"], [1, "Ada", "2024-02-29"]],
    }


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("true", True),
        ("false", False),
        ("NULL::int", None),
        ("9223372036854775807", 9223372036854775807),
        ("1.5::float4", 1.5),
        ("1e300::float8", 1e300),
        ("'NaN'::float8", "NaN"),
        ("'-Infinity'::numeric", "-Infinity"),
        ("'infinity'::timestamptz", "infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("timestamptz '2026-01-01 12:00+02'", "2026-01-01 10:00:00+00"),
        ("timestamp '2026-01-01 12:00:00.25'", "2026-01-01 12:00:00.25"),
        ("interval '1 month 2 hours'", "1 mon 02:00:00"),
        ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
        ("""'{"a":   1}'::json""", {"a": 1}),
        ("'null'::jsonb", None),
        ("ARRAY[1, NULL, 3]", [1, None, 3]),
        ("ARRAY[['a', 'b,\"']]", [["a", 'b,"']]),
        ("ARRAY['NaN'::float8, 1]", ["NaN", 1]),
        ("ROW(1, 'x')", {"f1": 1, "f2": "x"}),
        ("'\\x00ff'::bytea", "\\x00ff"),
        ("int4range(1, 5)", "[1,5)"),
        ("numrange(NULL, 'infinity')", "(,Infinity)"),
        ("'7b0e0e5c-2d6a-4d33-9cf4-f4c6a2a2f0a1'::uuid", "7b0e0e5c-2d6a-4d33-9cf4-f4c6a2a2f0a1"),
        ("'10.0.0.1/8'::inet", "10.0.0.1/8"),
        ("point(1, 2)", "(1,2)"),
        ("pg_sleep(0)", ""),
        ("E'tab\\t\\u2713'", "tab\t✓"),
    ],
)
async def test_types(reader: Database, sql: str, value: Any) -> None:
    assert await reader.rows(f"SELECT {sql}") == [[value]]


async def test_numbers_keep_all_their_digits(reader: Database) -> None:
    text = await reader.ask("query", sql="""SELECT 1.50, 12345678901234567890.1, '[12345678901234567890123]'::jsonb""")
    (row,) = json.loads(text, parse_float=Decimal)["rows"]
    assert row == [Decimal("1.50"), Decimal("12345678901234567890.1"), [12345678901234567890123]]
    assert "1.50," in text


async def test_a_whole_table_and_catalogs_can_be_read(reader: Database) -> None:
    assert len(await reader.rows("TABLE customer")) == 3
    assert await reader.rows("VALUES (1), (2)") == [[1], [2]]
    assert await reader.rows("WITH a AS (SELECT 7 AS x) SELECT x FROM a -- that is all") == [[7]]
    assert await reader.rows("(SELECT 1) UNION ALL (SELECT 2)") == [[1], [2]]
    rows = await reader.rows("SELECT attname, most_common_vals, c FROM pg_stats LEFT JOIN customer c ON c.id = 1")
    assert rows[0][2] == {"id": 1, "name": "Ada", "since": "2024-02-29"}


async def test_rows_are_capped(toolset: Toolset) -> None:
    three = toolset(max_rows=3)
    assert "note" not in await three.query("SELECT generate_series(1, 3)")
    answer = await three.query("SELECT g FROM generate_series(1, 100) g ORDER BY g DESC")
    assert answer["rows"] == [[100], [99], [98]]
    assert answer["note"].startswith("Cut after 3 rows, there are more.")
    assert "max_rows (now 3) raised" in answer["note"]


async def test_bytes_are_capped(toolset: Toolset, shop: Shop) -> None:
    small = toolset(max_rows=10_000, max_bytes=2_000)
    text = await small.ask("query", sql="SELECT repeat('é', 100) FROM generate_series(1, 1000000)")
    answer = json.loads(text)
    assert 5 < len(answer["rows"]) < 10
    assert "max_bytes (now 2,000) raised" in answer["note"]
    assert len(text.encode()) < 2_500
    shop.until_left()


@pytest.mark.parametrize("cell", ["repeat('x', 200000000)", "repeat(E'\\u0001', 5000000)", "repeat('字', 5000000)"])
async def test_one_huge_cell_is_cut_by_the_server(toolset: Toolset, cell: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = await toolset(max_bytes=3_000).ask("query", sql=f"SELECT {cell} AS c, 1")
    ((cut, one),) = json.loads(text)["rows"]
    assert (cut[-1], one) == ("…", 1)
    assert f"substring(column FROM {len(cut)})" in json.loads(text)["note"]
    assert len(text.encode()) < 3_500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kilobytes


@pytest.mark.parametrize(
    "value", ["(SELECT array_agg(g) FROM generate_series(1, 9999) g)", "repeat('9', 9999)::numeric"]
)
async def test_what_was_cut_is_text(toolset: Toolset, value: str) -> None:
    ((cut,),) = await toolset(max_bytes=1_000).rows(f"SELECT {value}")
    assert cut.endswith("…")


async def test_bytes_are_not_written_out_beyond_what_is_shown(reader: Database) -> None:
    ((cut,),) = await reader.rows("SELECT decode(repeat('ab', 50000000), 'hex')")
    assert cut.startswith("\\xabab")


async def test_a_huge_answer_fills_no_memory(toolset: Toolset) -> None:
    wide = toolset(max_rows=10_000, max_bytes=180_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = await wide.rows("SELECT repeat(md5(g::text), 1000) FROM generate_series(1, 100000) g")  # 3 GB
    assert len(rows) == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


async def test_too_many_columns_are_told(toolset: Toolset) -> None:
    columns = ", ".join("repeat('x', 500)" for _ in range(200))
    with pytest.raises(ToolError, match="One row has over 1,000 bytes: select fewer columns"):
        await toolset(max_bytes=1_000).query(f"SELECT {columns}")
    with pytest.raises(ToolError, match="no columns"):
        await toolset().query("SELECT")


async def test_text_that_is_no_utf8(shop: Shop, toolset: Toolset) -> None:
    shop.run("CREATE DATABASE old ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    old = toolset(database="old")
    assert await old.rows("SELECT 'café'") == [["café"]]
    with pytest.raises(ToolError, match="invalid byte sequence"):
        await old.query("SELECT E'caf\\xe9'")


async def test_list_tables(toolset: Toolset) -> None:
    listed = json.loads(await toolset().ask("list_tables"))["tables"]
    assert listed == [
        {"schema": "public", "name": "Order Line", "kind": "table"},
        {"schema": "public", "name": "customer", "kind": "table", "estimated_rows": 3, "comment": "Who buys."},
    ]
    both = json.loads(await toolset(schemas=["back", "public"]).ask("list_tables"))["tables"]
    assert [table["name"] for table in both] == ["wage", "Order Line", "customer"]
    assert json.loads(await toolset("clerk").ask("list_tables")) == {"tables": []}


async def test_a_long_list_is_capped(shop: Shop, toolset: Toolset) -> None:
    shop.run("CREATE SCHEMA many")
    shop.run("DO $$ BEGIN FOR i IN 1..50 LOOP EXECUTE 'CREATE TABLE many.t' || i || ' ()'; END LOOP; END $$")
    answer = json.loads(await toolset(schemas=["many"], max_bytes=1_000).ask("list_tables"))
    shop.run("DROP SCHEMA many CASCADE")
    assert 10 < len(answer["tables"]) < 25
    assert answer["note"].startswith(f"Only the first {len(answer['tables'])} tables are told")


async def test_describe_table(reader: Database) -> None:
    told = json.loads(await reader.ask("describe_table", table="customer"))
    assert (told["schema"], told["comment"], told["estimated_rows"]) == ("public", "Who buys.", 3)
    assert told["keys"] == ["PRIMARY KEY (id)", "UNIQUE (name)"]
    assert told["columns"][1] == {"name": "name", "type": "text", "nullable": False, "comment": "As on the invoice."}
    for name in ("Order Line", '"Order Line"', 'public."Order Line"', "public.Order Line"):
        told = json.loads(await reader.ask("describe_table", table=name))
        assert told["columns"][1] == {"name": "price", "type": "numeric(10,2)", "nullable": True, "default": "0"}
        assert told["keys"] == ["FOREIGN KEY (customer) REFERENCES customer(id)"]


@pytest.mark.parametrize("name", ["nothing", "back.wage", "wage", "pg_catalog.pg_class", "x' OR true --", "tickets"])
async def test_other_tables_are_not_described(reader: Database, name: str) -> None:
    with pytest.raises(ToolError, match="There is no table .* list_tables names them"):
        await reader.ask("describe_table", table=name)


async def test_explain_runs_nothing(toolset: Toolset) -> None:
    quick = toolset(statement_timeout=1)
    assert "Seq Scan on customer" in await quick.ask("explain", sql="SELECT pg_sleep(60) FROM customer;")
    for sql in ("ANALYZE SELECT 1", "(ANALYZE) SELECT 1", "DELETE FROM customer", "SELECT 1; SELECT 2"):
        with pytest.raises(ToolError, match="One SELECT, WITH, VALUES or TABLE query"):
            await quick.ask("explain", sql=sql)
    many = " UNION ALL ".join(["SELECT 1"] * 100)
    assert (await toolset(max_bytes=1_000).ask("explain", sql=many)).endswith("max_bytes of the toolset]")


async def test_two_toolsets_read_as_their_own_logins(toolset: Toolset) -> None:
    clerk, reader = toolset("clerk"), toolset()
    assert await clerk.rows("SELECT current_user, amount FROM back.wage") == [["clerk", 4200]]
    with pytest.raises(ToolError, match="permission denied for table customer"):
        await clerk.query("SELECT * FROM customer")
    assert await reader.rows("SELECT current_user, count(*) FROM customer") == [["reader", 3]]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT nme FROM customer", 'column "nme" does not exist. Perhaps you meant'),
        ("SELECT * FROM nothing", 'relation "nothing" does not exist'),
        ("SELECT 1/0", "division by zero"),
        ("SELEC 1", 'syntax error at or near "SELEC". One SELECT'),
        ("SELECT 'x", "unterminated quoted string"),
        ("SELECT 1; -- done", "without a semicolon"),
        (";", "syntax error"),
    ],
)
async def test_faults_of_a_query_are_explained(reader: Database, sql: str, words: str) -> None:
    with pytest.raises(ToolError) as caught:
        await reader.query(sql)
    assert words in str(caught.value)
