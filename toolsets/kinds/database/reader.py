"""The tools' own work. Every answer is text: JSON with its digits as the database has them."""

from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import orjson

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.database import catalog
from toolsets.kinds.database.answer import Answer, Capped
from toolsets.kinds.database.arguments import DatabaseConfig, DescribeTable, ListTables, Query
from toolsets.kinds.database.connection import Connection, Slot
from toolsets.kinds.database.rows import described, plan, shortened, streamed
from toolsets.kinds.database.session import bare, login_of, reading


class Reader:
    """Each call has a connection of its own: none outlives the password that opened it."""

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config

    async def query(self, arguments: Query, context: ToolCallContext) -> str:
        async with self._reading(context) as connection:
            return await self._answered(connection, bare(arguments.sql))

    async def _answered(self, connection: Connection, sql: bytes) -> str:
        columns = await described(connection, sql)
        if not columns:
            raise ToolError("The query selects no columns.")
        config = self._config
        answer = Answer(columns, max_rows=config.max_rows, max_bytes=config.max_bytes)
        short = shortened(sql, columns, rows=config.max_rows + 1, length=answer.cell_length)
        async with aclosing(streamed(connection, short)) as rows:
            async for row in rows:
                if not answer.add(row):
                    break
        return answer.json()

    async def explain(self, arguments: Query, context: ToolCallContext) -> str:
        async with self._reading(context) as connection:
            return await self._planned(connection, bare(arguments.sql))

    async def _planned(self, connection: Connection, sql: bytes) -> str:
        await described(connection, sql)
        lines: list[str] = []
        room = self._config.max_bytes
        async with aclosing(plan(connection, sql)) as found:
            async for line in found:
                room -= len(line.encode()) + 1
                if room < 0:
                    lines.append(f"[cut at {self._config.max_bytes:,} bytes: max_bytes of the toolset]")
                    break
                lines.append(line)
        return "\n".join(lines)

    async def list_tables(self, arguments: ListTables, context: ToolCallContext) -> str:
        async with self._reading(context) as connection:
            found = await catalog.tables(connection, self._config.schemas)
        return self._told({}, "tables", found, catalog.MAX_TABLES)

    async def describe_table(self, arguments: DescribeTable, context: ToolCallContext) -> str:
        async with self._reading(context) as connection:
            found = await catalog.table(connection, self._config.schemas, arguments.table)
        columns = found.pop("columns")
        return self._told(found, "columns", columns, len(columns))

    def _told(self, facts: dict[str, Any], name: str, parts: list[dict[str, Any]], most: int) -> str:
        capped = Capped(most, self._config.max_bytes - len(orjson.dumps(facts)))
        for part in parts:
            if not capped.add(orjson.dumps(part)):
                break
        note = f"Only the first {len(capped.pieces)} {name} are told; the catalog pg_catalog has them all."
        return orjson.dumps({**facts, name: capped.pieces, **({"note": note} if capped.cut else {})}).decode()

    def _reading(self, context: ToolCallContext) -> AbstractAsyncContextManager[Connection]:
        slot = Slot(context.tenant_id, context.toolset)
        return reading(login_of(self._config, context.secrets), slot, self._config.statement_timeout)
