from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from core.validation import Found
from toolsets.base import Risk, Tool, ToolsetKind
from toolsets.kinds.database.arguments import DatabaseConfig, DescribeTable, ListTables, Query
from toolsets.kinds.database.reader import Reader
from toolsets.kinds.database.session import login_faults, total_seconds


class DatabaseToolset(ToolsetKind):
    slug = "database"
    title = "PostgreSQL database"
    description = "SQL queries to a PostgreSQL database, in read-only transactions under a login of its own."
    Config: ClassVar[type[DatabaseConfig]] = DatabaseConfig
    secrets: ClassVar[Mapping[str, str]] = {"password": "Password of the user"}
    places: ClassVar[frozenset[str]] = frozenset({"host", "port", "sslmode"})

    def server_faults(self, config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterator[Found]:
        return login_faults(config, secrets)

    def tools(self, config: DatabaseConfig) -> Sequence[Tool]:
        reader = Reader(config)
        seconds = total_seconds(config.statement_timeout)
        tool = partial(Tool, risk=Risk.EGRESS, timeout=seconds, untrusted=True, repeatable=True)
        return [
            tool("query", "Rows of a PostgreSQL query, as JSON; nothing can be changed.", Query, reader.query),
            tool("list_tables", "The tables and views that may be queried.", ListTables, reader.list_tables),
            tool("describe_table", "A table's columns, types and keys.", DescribeTable, reader.describe_table),
            tool("explain", "PostgreSQL's plan and cost of a query, which is not run.", Query, reader.explain),
        ]
