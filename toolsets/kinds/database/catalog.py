"""What a database says of its tables. The schemas are the config's; what the login may not read is left out."""

from typing import Any

from psycopg.rows import dict_row

from toolsets.exceptions import ToolError
from toolsets.kinds.database.connection import Connection

MAX_TABLES = 1_000
_KINDS = (
    "CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' "
    "ELSE 'table' END"
)
_TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name, {_KINDS} AS kind,
       CASE WHEN c.reltuples >= 0 AND c.relkind IN ('r', 'm', 'p') THEN c.reltuples::int8 END AS estimated_rows,
       pg_catalog.left(pg_catalog.obj_description(c.oid, 'pg_class'), 300) AS comment
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND (pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))
"""  # noqa: S608 no names but ours
_LIST = f"""{_TABLES} AND NOT c.relispartition
ORDER BY pg_catalog.array_position(%(schemas)s::text[], n.nspname::text), c.relname LIMIT {MAX_TABLES + 1}"""
_FIND = f"""SELECT c.oid, found.* FROM ({_TABLES}
  AND %(table)s::text IN (c.relname::text, n.nspname || '.' || c.relname, pg_catalog.format('%%I', c.relname),
                    pg_catalog.format('%%I.%%I', n.nspname, c.relname))
) AS found JOIN pg_catalog.pg_namespace n ON n.nspname = found.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = found.name
ORDER BY pg_catalog.array_position(%(schemas)s::text[], found.schema::text) LIMIT 1"""  # noqa: S608
_COLUMNS = """
SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
       pg_catalog.left(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 300) AS default,
       pg_catalog.left(pg_catalog.col_description(a.attrelid, a.attnum), 300) AS comment
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEYS = """
SELECT pg_catalog.left(pg_catalog.pg_get_constraintdef(oid), 300) AS key FROM pg_catalog.pg_constraint
WHERE conrelid = %s AND contype IN ('p', 'u', 'f') ORDER BY contype = 'p' DESC, conname
"""


async def tables(connection: Connection, schemas: list[str]) -> list[dict[str, Any]]:
    """At most MAX_TABLES + 1."""
    return await _rows(connection, _LIST, {"schemas": schemas})


async def table(connection: Connection, schemas: list[str], name: str) -> dict[str, Any]:
    """Raises ToolError when none of the schemas has it."""
    found = await _rows(connection, _FIND, {"schemas": schemas, "table": name})
    if not found:
        raise ToolError(f"There is no table '{name}' in {', '.join(schemas)} that may be read; list_tables names them.")
    oid = found[0].pop("oid")
    columns = await _rows(connection, _COLUMNS, [oid])
    keys = await _rows(connection, _KEYS, [oid])
    return {**found[0], "columns": [_without_none(row) for row in columns], "keys": [row["key"] for row in keys]}


async def _rows(connection: Connection, sql: str, parameters: Any) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql.encode(), parameters)
        return [_without_none(row) for row in await cursor.fetchall()]


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
