"""One statement that changes a tenant's database, in one transaction."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.database.answer import Answer
from toolsets.kinds.database.connection import Connection, Slot
from toolsets.kinds.database.rows import TEXT_OID, Column, Row, columns_of
from toolsets.kinds.database.session import NOT_A_CHANGE, UNCHANGED, bare, login_of, writing
from toolsets.kinds.database_writer.arguments import DatabaseWriterConfig, Execute

# The beginning of a message that may hold one statement: with it the server itself refuses all but INSERT, UPDATE,
# DELETE, MERGE and queries.
PREPARE = b"PREPARE change AS "
CHANGES = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")  # what the server answers when it made one
DDL = re.compile(r"\s*(?:create|alter|drop|truncate|comment)\b", re.IGNORECASE)
# What this transaction has changed so far in tables that are not PostgreSQL's own, as triggers and functions did, too.
_CHANGED = b"""
SELECT pg_catalog.current_setting('track_counts') = 'on', coalesce(sum(
    pg_catalog.pg_stat_get_xact_tuples_inserted(oid) + pg_catalog.pg_stat_get_xact_tuples_updated(oid)
    + pg_catalog.pg_stat_get_xact_tuples_deleted(oid)), 0)::int8
FROM pg_catalog.pg_class WHERE relkind = 'r' AND relnamespace <> 'pg_catalog'::pg_catalog.regnamespace
"""


class Writer:
    def __init__(self, config: DatabaseWriterConfig) -> None:
        self._config = config

    async def execute(self, arguments: Execute, context: ToolCallContext) -> str:
        login, slot = login_of(self._config, context.secrets), Slot(context.tenant_id, context.toolset)
        async with writing(login, slot, self._config.statement_timeout) as connection:
            return await self._executed(connection, arguments)

    async def _executed(self, connection: Connection, arguments: Execute) -> str:
        config, sql = self._config, bare(arguments.sql)
        parameters = [_written(value) for value in arguments.parameters]
        if DDL.match(arguments.sql):
            await self._defined(connection, sql, parameters)
            return orjson.dumps({"done": True}).decode()
        columns = [_as_text(column) for column in await _prepared(connection, sql, len(parameters))]
        answer = Answer(columns, max_rows=config.max_rows, max_bytes=config.max_bytes, more="Return less")
        affected = await _made(connection, sql, parameters, answer)
        changed = await _changed(connection)
        self._refuse_more(max(affected, changed))
        facts = {"affected_rows": affected, **({"changed_in_all": changed} if changed > affected else {})}
        return answer.json(**facts) if columns else orjson.dumps(facts).decode()

    async def _defined(self, connection: Connection, sql: bytes, parameters: Sequence[bytes | None]) -> None:
        if not self._config.allow_ddl:
            raise ToolError(f"This toolset runs no DDL; its allow_ddl allows that. {UNCHANGED}")
        if parameters:
            raise ToolError(f"DDL takes no parameters: write the values into it. {UNCHANGED}")
        await connection.execute(sql, binary=True)  # so that the server takes no second statement

    def _refuse_more(self, rows: int) -> None:
        most = self._config.max_affected
        if rows > most:
            raise ToolError(
                f"The statement would change more than {most:,} rows, this toolset's max_affected. {UNCHANGED} Narrow "
                "it, or have max_affected raised."
            )


async def _prepared(connection: Connection, sql: bytes, given: int) -> list[Column]:
    """The columns that the statement returns; it does not run yet. Raises ToolError for other than `given` parameters,
    and the server's error for what is no such statement.
    """
    await connection.execute(PREPARE + sql, binary=True)
    await connection.execute(b"DEALLOCATE change")  # a pooler may give the session to others
    pgconn = connection.pgconn
    pgconn.send_prepare(b"", sql)
    await _result(connection)
    pgconn.send_describe_prepared(b"")
    result = await _result(connection)
    if result.nparams != given:
        raise ToolError(f"The statement has {result.nparams} parameters, and {given} were given. {UNCHANGED}")
    return await columns_of(connection, result)


async def _result(connection: Connection) -> PGresult:
    result: PGresult = (await connection.wait(generators.execute(connection.pgconn)))[0]
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)
    return result


def _as_text(column: Column) -> Column:
    """Arrays and composite values come as PostgreSQL writes them, which is no JSON."""
    return replace(column, oid=TEXT_OID if column.compound else column.oid, category="")


async def _made(connection: Connection, sql: bytes, parameters: Sequence[bytes | None], answer: Answer) -> int:
    """How many rows the statement affects, a query none. Rows that it returns are read one by one.

    Raises ToolError for SELECT INTO, which makes a table and could be prepared as well.
    """
    pgconn, room = connection.pgconn, True
    pgconn.send_query_params(sql, parameters)  # one statement only
    pgconn.set_single_row_mode()
    await connection.wait(generators.send(pgconn))
    tag, affected, returns = b"", 0, False
    while result := await connection.wait(generators.fetch(pgconn)):
        if result.status == ExecStatus.SINGLE_TUPLE:
            room = room and _shown(answer, tuple(result.get_value(0, place) for place in range(result.nfields)))
        elif result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            tag, affected = result.command_status or b"", result.command_tuples or 0
            returns = result.status == ExecStatus.TUPLES_OK
        else:
            raise psycopg.errors.error_from_result(result)
    if not (returns or tag.startswith(CHANGES)):
        raise ToolError(f"{NOT_A_CHANGE} {UNCHANGED}")
    return affected if tag.startswith(CHANGES) else 0


def _shown(answer: Answer, row: Row) -> bool:
    try:
        return answer.add(row)
    except ToolError as error:
        raise ToolError(f"{error} {UNCHANGED}") from None


async def _changed(connection: Connection) -> int:
    counting, changed = (await (await connection.execute(_CHANGED)).fetchall())[0]
    if not counting:
        raise ToolError(f"The database does not count changes, so no limit can hold: set track_counts on. {UNCHANGED}")
    return int(changed)


def _written(value: Any) -> bytes | None:
    """Of no type: the server takes it for what stands in its place."""
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else orjson.dumps(value)
