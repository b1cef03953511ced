"""One transaction of a tenant's database, which nothing outlives: to read, never committed, or to write."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg

from core.validation import Found
from toolsets.exceptions import ToolError
from toolsets.kinds.database.arguments import ServerConfig
from toolsets.kinds.database.connection import CONNECT_TIMEOUT, MAX_REASON, Connection, Login, Slot, connected
from toolsets.places import private_places

GRACE = 3.0  # seconds that we wait beyond the server's own timeout
CANCEL_TIMEOUT = 10.0  # seconds that psycopg takes at most to end a query that was given up
LOCK_TIMEOUT = 5  # seconds
MAX_HINT = 500  # characters
NOT_A_QUERY = "One SELECT, WITH, VALUES or TABLE query can run here, without a semicolon."
NOT_A_CHANGE = "One INSERT, UPDATE, DELETE, MERGE or SELECT statement can run here, without a semicolon."
UNCHANGED = "Nothing was changed."
UNKNOWN = (
    "The connection broke while the change was committed: it may have been made or not. Look whether it was before you "
    "make it again."
)
# SQLSTATEs of an error that leaves open whether a COMMIT took effect: the connection or the server ended under it.
OPEN_ENDS = ("08", "40003", "57P", "58", "XX")

# What somebody may do whom a read-only transaction does not hold: programs, files, slots, other people's sessions.
PRIVILEGED_ROLES = "pg_execute_server_program", "pg_read_server_files", "pg_write_server_files", "pg_signal_backend"
# Functions that leave the transaction. PostgreSQL's own are granted to nobody, dblink's to everybody.
PRIVILEGED_FUNCTIONS = (
    *("dblink", "dblink_exec", "dblink_connect", "dblink_connect_u", "dblink_open", "dblink_send_query"),
    *("lo_export", "lo_import", "pg_read_file", "pg_read_binary_file", "pg_file_write"),
)


def login_faults(config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterator[Found]:
    yield from private_places(config, "host")
    if "password" not in secrets:
        yield (), "secret_missing", "The kind needs the secret 'password': give it as well."


def _texts(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


# Memberships count even where they are not inherited, since set_config('role', …) takes them up.
_PRIVILEGES = f"""
WITH mine AS (
    SELECT r.* FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
), grave AS (
    SELECT CASE WHEN rolsuper THEN 1 ELSE 2 END AS place, CASE WHEN rolsuper THEN 'is a superuser, or may become one'
                   WHEN rolreplication THEN 'may replicate, as role ' || rolname
                   ELSE 'is a member of ' || rolname END AS what
    FROM mine WHERE rolsuper OR rolreplication OR rolname IN ({_texts(PRIVILEGED_ROLES)})
    UNION ALL
    SELECT 3, 'may execute ' || p.oid::pg_catalog.regprocedure FROM pg_catalog.pg_proc p
    WHERE p.proname IN ({_texts(PRIVILEGED_FUNCTIONS)}) AND EXISTS (
        SELECT FROM mine WHERE pg_catalog.has_function_privilege(mine.oid, p.oid, 'EXECUTE'))
)
SELECT what FROM grave ORDER BY place LIMIT 1
"""  # noqa: S608 names are ours


class Mode(NamedTuple):
    """`hint` follows a syntax error, `after` any error."""

    sql: str
    hint: str
    after: str


READING = Mode("READ ONLY", NOT_A_QUERY, "")
WRITING = Mode("READ WRITE", NOT_A_CHANGE, UNCHANGED)


def total_seconds(statement_timeout: int, statements: int = 1) -> float:
    """What a call takes at most."""
    return CONNECT_TIMEOUT + statements * (statement_timeout + GRACE) + CANCEL_TIMEOUT


def login_of(config: ServerConfig, secrets: Mapping[str, str]) -> Login:
    """Raises ToolError without a usable password."""
    password = secrets.get("password", "")
    if not (password and password.isprintable()):
        raise ToolError("This toolset's secret `password` is missing, or holds control characters: it must be set.")
    return Login(
        host=config.host,
        port=config.port,
        database=config.database,
        user=config.user,
        sslmode=config.sslmode,
        password=password,
        ca_certificate=config.ca_certificate,
    )


def bare(sql: str) -> bytes:
    """Without the semicolons that may end it."""
    return sql.strip("; \t\r\n").encode()


@asynccontextmanager
async def reading(login: Login, slot: Slot, seconds: int) -> AsyncIterator[Connection]:
    """A connection in a read-only transaction, rolled back at the end. Each statement may take `seconds`, and all of
    them GRACE longer; what is given up, by a timeout or because the run was cancelled, is ended at the server.

    Raises ToolError for what the server says, and for a login that read-only transactions do not hold.
    """
    async with connected(login, slot) as connection, _begun(connection, login, seconds, READING):
        yield connection
        await connection.rollback()


@asynccontextmanager
async def writing(login: Login, slot: Slot, seconds: int) -> AsyncIterator[Connection]:
    """A connection in a transaction that is committed at the end, for which the server has the same time again.

    Raises as `reading` does. Any error before the COMMIT leaves the database as it was; one of the COMMIT itself is
    ToolError as well, which says so where nobody knows whether it took effect.
    """
    async with connected(login, slot) as connection:
        async with _begun(connection, login, seconds, WRITING):
            yield connection
        await _commit(connection, login, seconds)


async def _commit(connection: Connection, login: Login, seconds: int) -> None:
    try:
        async with asyncio.timeout(seconds + GRACE):
            cursor = await connection.execute(b"COMMIT")
    except TimeoutError:
        raise ToolError(UNKNOWN) from None
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(OPEN_ENDS):
            raise ToolError(UNKNOWN) from None
        raise _explained(error, login, seconds, WRITING) from None
    if cursor.statusmessage != "COMMIT":
        raise ToolError(f"The server did not commit. {UNCHANGED}")


@asynccontextmanager
async def _begun(connection: Connection, login: Login, seconds: int, mode: Mode) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds + GRACE):
            await _begin(connection, seconds, mode)
            yield
    except TimeoutError:
        raise _too_slow(seconds, mode) from None
    except psycopg.Error as error:
        raise _explained(error, login, seconds, mode) from None


async def _begin(connection: Connection, seconds: int, mode: Mode) -> None:
    """Raises ToolError. All in one message; SET LOCAL leaves nothing behind with a pooler."""
    wanted = _settings(connection, seconds)
    if mode is READING:
        wanted["default_transaction_read_only"] = "on"
    settings = "".join(f"SET LOCAL {name} = '{value}';" for name, value in wanted.items())
    cursor = await connection.execute(f"BEGIN {mode.sql};{settings}{_PRIVILEGES}".encode())
    while cursor.nextset():
        pass
    if row := await cursor.fetchone():
        held, only = ("a read-only", "read") if mode is READING else ("a", "read and change")
        raise ToolError(
            f"The login {row[0]}, which {held} transaction does not hold: have the toolset log in as a role that may "
            f"only {only} its tables."
        )


def _settings(connection: Connection, seconds: int) -> dict[str, str]:
    """libpq sends some of the server's environment (PGTZ, PGDATESTYLE, PGGEQO), so these are set as well."""
    settings = {
        "statement_timeout": f"{seconds}s",
        "lock_timeout": f"{min(LOCK_TIMEOUT, seconds)}s",
        "idle_in_transaction_session_timeout": f"{seconds + int(GRACE)}s",
        "timezone": "UTC",
        "datestyle": "ISO, MDY",
        "intervalstyle": "postgres",
        "bytea_output": "hex",
        "geqo": "on",
    }
    if connection.info.server_version >= 170000:
        settings["transaction_timeout"] = f"{seconds + int(GRACE)}s"
    return settings


def _too_slow(seconds: int, mode: Mode) -> ToolError:
    return ToolError(
        f"The query did not finish within {seconds} s and was ended. Ask for less, or have the toolset's "
        f"statement_timeout raised. {mode.after}".rstrip()
    )


def _explained(error: psycopg.Error, login: Login, seconds: int, mode: Mode) -> ToolError:
    """The server's words, which are the tenant's own; the password that it knows is taken out."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return _too_slow(seconds, mode)
    told = error.diag
    if told.message_primary is None:
        reason = str(error).partition("\n")[0][:MAX_REASON]
        text = f"The connection to {login.place} broke: {reason} {mode.after}".rstrip()
        return ToolError(text.replace(login.password, "[password]"))
    parts = [f"{told.message_primary}.", told.message_detail, told.message_hint]
    if isinstance(error, psycopg.errors.SyntaxError):
        parts.append(mode.hint)
    text = " ".join(part[:MAX_HINT] for part in [*parts, mode.after] if part)
    return ToolError(text.replace(login.password, "[password]"))
