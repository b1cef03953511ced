from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from core.validation import Found
from toolsets.base import Risk, Tool, ToolsetKind
from toolsets.kinds.database.session import login_faults, total_seconds
from toolsets.kinds.database_writer.arguments import DatabaseWriterConfig, Execute
from toolsets.kinds.database_writer.writer import Writer


class DatabaseWriterToolset(ToolsetKind):
    slug = "database_writer"
    title = "PostgreSQL database, writing"
    description = "Single statements that change a PostgreSQL database; for templates that declare it."
    Config: ClassVar[type[DatabaseWriterConfig]] = DatabaseWriterConfig
    secrets: ClassVar[Mapping[str, str]] = {"password": "Password of the user"}
    places: ClassVar[frozenset[str]] = frozenset({"host", "port", "sslmode"})
    reserved = True

    def server_faults(self, config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterator[Found]:
        return login_faults(config, secrets)

    def tools(self, config: DatabaseWriterConfig) -> Sequence[Tool]:
        return [
            Tool(
                "execute",
                f"Runs one statement that changes a PostgreSQL database, at most {config.max_affected:,} rows of it. "
                "All of it takes effect, or nothing.",
                Execute,
                Writer(config).execute,
                risk=Risk.WRITE,
                timeout=total_seconds(config.statement_timeout, statements=2),
                parallel=False,
                untrusted=True,
                approval=True,
            )
        ]
