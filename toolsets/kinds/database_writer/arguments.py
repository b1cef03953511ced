from typing import Annotated

from pydantic import AfterValidator, Field

from toolsets.base import ToolArguments
from toolsets.kinds.database.arguments import MAX_SQL, ServerConfig, storable

MAX_PARAMETERS = 1000
MAX_PARAMETER = 1_000_000  # characters
Text = Annotated[str, Field(max_length=MAX_PARAMETER), AfterValidator(storable)]


class DatabaseWriterConfig(ServerConfig):
    max_affected: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Most rows changed",
        description="By one statement, with what triggers and cascades change; one that changes more is rolled back.",
    )
    allow_ddl: bool = Field(
        False,
        title="Allow DDL",
        description="Also CREATE, ALTER, DROP, TRUNCATE and COMMENT, whose rows are not counted.",
    )


class Execute(ToolArguments):
    sql: Annotated[str, AfterValidator(storable)] = Field(
        min_length=1,
        max_length=MAX_SQL,
        description="One INSERT, UPDATE, DELETE or MERGE statement in PostgreSQL's SQL, without a semicolon; WITH and "
        "RETURNING as usual. Write values as $1, $2, … and give them in `parameters`.",
    )
    parameters: list[Text | bool | int | float | None] = Field(
        default_factory=list,
        max_length=MAX_PARAMETERS,
        description="The values of $1, $2, …. Write what is no text, number, boolean or null as PostgreSQL reads it: "
        "times, JSON, arrays as {1,2}. A cast such as $1::jsonb says the type where nothing else does.",
    )
