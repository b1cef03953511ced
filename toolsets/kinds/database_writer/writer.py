"""One statement that changes a tenant's database, in one transaction."""

import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
import psycopg
from psycopg import generators, pq

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.database.answer import Answer
from toolsets.kinds.database.connection import Connection, Slot
from toolsets.kinds.database.rows import TEXT_OID, Column, RawLoader, columns_of
from toolsets.kinds.database.session import NOT_A_CHANGE, UNCHANGED, bare, login_of, writing
from toolsets.kinds.database_writer.arguments import DatabaseWriterConfig, Execute

# The beginning of a message that may hold one statement: with it the server itself refuses all but INSERT, UPDATE,
# DELETE, MERGE and queries.
PREPARE = b"PREPARE change AS "
CHANGES = ("INSERT", "UPDATE", "DELETE", "MERGE")  # what the server answers when it made one
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
        sql, parameters = bare(arguments.sql), [_written(value) for value in arguments.parameters]
        if DDL.match(arguments.sql):
            await self._defined(connection, sql, parameters)
            return orjson.dumps({"done": True}).decode()
        columns = await _prepared(connection, sql, len(parameters))
        if columns:
            affected, answer = await self._streamed(connection, sql, parameters, columns)
        else:
            affected, answer = await _made(connection, sql, parameters), None
        changed = await _changed(connection)
        self._refuse_more(max(affected, changed))
        facts = {"affected_rows": affected, **({"changed_in_all": changed} if changed > affected else {})}
        return answer.json(**facts) if answer else orjson.dumps(facts).decode()

    async def _defined(self, connection: Connection, sql: bytes, parameters: Sequence[str | None]) -> None:
        if not self._config.allow_ddl:
            raise ToolError(f"This toolset runs no DDL; its allow_ddl allows that. {UNCHANGED}")
        if parameters:
            raise ToolError(f"DDL takes no parameters: write the values into it. {UNCHANGED}")
        await connection.execute(sql, binary=True)  # so that the server takes no second statement

    async def _streamed(
        self, connection: Connection, sql: bytes, parameters: Sequence[str | None], columns: list[Column]
    ) -> tuple[int, Answer]:
        """How many rows it returns, and those that are shown. Each is read, and no more than one is held at once."""
        config = self._config
        shown = [_as_text(column) for column in columns]
        answer = Answer(shown, max_rows=config.max_rows, max_bytes=config.max_bytes, more="Return less")
        affected, fits = 0, True
        async with psycopg.AsyncRawCursor(connection) as cursor:
            for column in columns:
                cursor.adapters.register_loader(column.oid, RawLoader)
            async with aclosing(cursor.stream(sql, parameters)) as rows:  # type: ignore[type-var]
                async for row in rows:
                    affected += 1
                    self._refuse_more(affected)
                    fits = fits and answer.add(row)
        return affected, answer

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
    connection.pgconn.send_describe_prepared(b"change")
    (result,) = await connection.wait(generators.execute(connection.pgconn))
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise ToolError(f"The server does not describe the statement. {UNCHANGED}")
    if result.nparams != given:
        raise ToolError(f"The statement has {result.nparams} parameters, and {given} were given. {UNCHANGED}")
    return await columns_of(connection, result)


def _as_text(column: Column) -> Column:
    """Arrays and composite values come as PostgreSQL writes them, which is no JSON."""
    return replace(column, oid=TEXT_OID if column.compound else column.oid, category="")


async def _made(connection: Connection, sql: bytes, parameters: Sequence[str | None]) -> int:
    """How many rows are affected by what returns none. SELECT INTO, which makes a table, could be prepared as well."""
    cursor = await psycopg.AsyncRawCursor(connection).execute(sql, parameters, binary=True)
    if not (cursor.statusmessage or "").startswith(CHANGES):
        raise ToolError(f"{NOT_A_CHANGE} {UNCHANGED}")
    return cursor.rowcount


async def _changed(connection: Connection) -> int:
    counting, changed = (await (await connection.execute(_CHANGED)).fetchall())[0]
    if not counting:
        raise ToolError(f"The database does not count changes, so no limit can hold: set track_counts on. {UNCHANGED}")
    return int(changed)


def _written(value: Any) -> str | None:
    """Of no type: the server takes it for what stands in its place."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
