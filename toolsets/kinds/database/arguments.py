import ssl
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from toolsets.base import ToolArguments, ToolsetConfig

MAX_SQL = 100_000  # characters
MOST_BYTES = 180_000  # of a result: the toolbox cuts what has over 200,000 characters


def _printable(text: str) -> str:
    """Raises ValueError. libpq takes its parameters as one C string, which a NUL would end."""
    if not text.isprintable():
        raise ValueError("must be printable characters only")
    return text


def storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold the character NUL")
    return text


def _certificate(text: str) -> str:
    """Raises ValueError for what is no PEM certificate; several may follow each other."""
    try:
        if text:
            ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise ValueError("must be certificates in PEM: -----BEGIN CERTIFICATE----- …") from None
    return text


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Sql = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SQL,
        description="One SELECT, WITH, VALUES or TABLE query in PostgreSQL's SQL, without a semicolon.",
    ),
    AfterValidator(storable),
]


class ServerConfig(ToolsetConfig):
    """Whose server it is, and how much is read from it."""

    host: str = Field(
        title="Host",
        description="Name or address of the PostgreSQL server.",
        max_length=253,
        pattern=r"^([A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$",
    )
    port: int = Field(5432, ge=1, le=65535, title="Port")
    database: Name = Field(title="Database")
    user: Name = Field(title="User", description="A login with no more rights than needed, made for this toolset.")
    sslmode: Literal["require", "verify-full", "disable"] = Field(
        "require",
        title="TLS",
        description="`require` encrypts, `verify-full` also checks the server's certificate and name, `disable` does "
        "neither.",
    )
    ca_certificate: Annotated[str, AfterValidator(_certificate)] = Field(
        "",
        title="CA certificate",
        description="PEM, for `verify-full`: who must have signed the server's; empty: any public authority.",
        max_length=100_000,
    )
    max_rows: int = Field(200, ge=1, le=10_000, title="Most rows", description="Of one result; more are cut off.")
    max_bytes: int = Field(50_000, ge=1_000, le=MOST_BYTES, title="Most bytes", description="Of one result, as JSON.")
    statement_timeout: int = Field(
        30, ge=1, le=600, title="Statement timeout", description="Seconds after which the server ends a query."
    )


class DatabaseConfig(ServerConfig):
    schemas: list[Name] = Field(
        ["public"],
        title="Schemas",
        description="Whose tables are listed and described. What may be read is decided by the user's rights.",
        min_length=1,
        max_length=50,
    )


class Query(ToolArguments):
    sql: Sql


class ListTables(ToolArguments):
    pass


class DescribeTable(ToolArguments):
    table: Annotated[str, AfterValidator(_printable)] = Field(
        min_length=1, max_length=260, description="A name that list_tables told: schema.table, or table alone."
    )
