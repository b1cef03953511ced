"""The database roles of the project, made where they are missing: `app_owner` migrates, `app_user` serves tenants,
`app_stream` appends to the event log, `app_ops` bypasses row-level security. None can log in; the login takes them by
`SET ROLE` and inherits nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import LiteralString

import psycopg
from psycopg import sql

from agentsite.embedded.binaries import OLDEST_MAJOR
from agentsite.embedded.errors import StartError
from agentsite.embedded.postgres import DATABASE, LOGIN, Cluster

ROLES = {
    "app_owner": "NOLOGIN CREATEDB NOBYPASSRLS",
    "app_user": "NOLOGIN NOBYPASSRLS",
    "app_stream": "NOLOGIN NOBYPASSRLS",
    "app_ops": "NOLOGIN BYPASSRLS",
}
# What to run when the condition holds.
GRANTS: dict[LiteralString, LiteralString] = {
    "NOT has_database_privilege('app_owner', current_database(), 'CREATE')": (
        "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO app_owner"
    ),
    "NOT has_schema_privilege('app_owner', 'public', 'CREATE')": "GRANT USAGE, CREATE ON SCHEMA public TO app_owner",
    "NOT has_schema_privilege('app_user', 'public', 'USAGE')": "GRANT USAGE ON SCHEMA public TO app_user",
    "NOT has_schema_privilege('app_stream', 'public', 'USAGE')": "GRANT USAGE ON SCHEMA public TO app_stream",
    "NOT has_schema_privilege('app_ops', 'public', 'USAGE')": "GRANT USAGE ON SCHEMA public TO app_ops",
    "has_schema_privilege('app_user', 'public', 'CREATE')": "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
}
LOCK_ID = 0x6167656E74  # "agent"
CONNECT_SECONDS = 10

Connection = psycopg.Connection[tuple[object, ...]]


def bootstrap(cluster: Cluster) -> None:
    """Makes login, roles and database of an embedded server. Idempotent; quick when nothing is missing."""
    try:
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            if not _pending(connection, LOGIN, tuple(ROLES)):
                return
    except psycopg.OperationalError:
        pass  # no such login or database yet
    with _connect(cluster.admin_url) as connection, _exclusive(connection):
        _make_login(connection, cluster.home.secrets().database_password)
        for statement in _roles_pending(connection, LOGIN, tuple(ROLES)):
            connection.execute(statement)
        if not _exists(connection, "SELECT FROM pg_database WHERE datname = %s", DATABASE):
            name, owner = sql.Identifier(DATABASE), sql.Identifier("app_owner")
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))


def ensure_roles(url: str, roles: Sequence[str] = tuple(ROLES)) -> None:
    """Makes what is missing in the database of `url` and lets its login take `roles`, with that login's own rights.

    Raises StartError: unreachable, older than 15, not UTF-8, or lacking the right, then with the SQL for the
    database's administrator.
    """
    with _connect(url) as connection:
        _require_supported(connection)
        login = connection.info.user
        if not _pending(connection, login, roles):
            return
        with _exclusive(connection):
            pending = _pending(connection, login, roles)
            with suppress(psycopg.errors.InsufficientPrivilege):
                for statement in pending:
                    connection.execute(statement)
            # A GRANT without the right to it can end with a warning only.
            if _pending(connection, login, roles):
                raise StartError(_request(connection, login, pending))


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """One process at a time migrates and fills the database of `url`."""
    with _connect(url) as connection, _exclusive(connection):
        yield


def _connect(url: str) -> Connection:
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise StartError(f"The database of DATABASE_URL cannot be reached: {reason}") from error
    except psycopg.ProgrammingError as error:
        raise StartError("DATABASE_URL must look like postgresql://user:password@host:5432/database.") from error


@contextmanager
def _exclusive(connection: Connection) -> Iterator[None]:
    connection.execute("SELECT pg_advisory_lock(%s)", (LOCK_ID,))
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK_ID,))


def _require_supported(connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST_MAJOR:
        raise StartError(f"PostgreSQL {OLDEST_MAJOR} or newer is needed; the server of DATABASE_URL is {version}.")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StartError(f"The database of DATABASE_URL must have the encoding UTF8, not {encoding}.")


def _pending(connection: Connection, login: str, roles: Sequence[str]) -> list[sql.Composed]:
    """In the order to run them; all grants when a role is missing, as they cannot be checked yet."""
    statements = _roles_pending(connection, login, roles)
    missing = [role for role in ROLES if not _role_exists(connection, role)]
    return [*statements, *_grants_pending(connection, everything=bool(missing))]


def _roles_pending(connection: Connection, login: str, roles: Sequence[str]) -> list[sql.Composed]:
    statements: list[sql.Composed] = []
    for role, attributes in ROLES.items():
        name = sql.Identifier(role)
        if not _role_exists(connection, role):
            statements.append(sql.SQL("CREATE ROLE {} {}").format(name, sql.SQL(attributes)))
        elif not _has_rights(connection, role):
            bypass = "BYPASSRLS" if role == "app_ops" else "NOBYPASSRLS"
            statements.append(sql.SQL("ALTER ROLE {} NOSUPERUSER {}").format(name, sql.SQL(bypass)))
        if role in roles and not _may_take(connection, login, role):
            statements.append(_grant(connection, role, login))
    return statements


def _has_rights(connection: Connection, role: str) -> bool:
    query = "SELECT FROM pg_roles WHERE rolname = %s AND NOT rolsuper AND rolbypassrls = (rolname = 'app_ops')"
    return _exists(connection, query, role)


def _may_take(connection: Connection, login: str, role: str) -> bool:
    right = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    query = "SELECT FROM pg_roles WHERE rolname = %s AND pg_has_role(%s, oid, %s)"
    return _exists(connection, query, role, login, right)


def _grant(connection: Connection, role: str, login: str) -> sql.Composed:
    """Before PostgreSQL 16 inheritance is the login's own attribute, which is left as its owner made it."""
    options = " WITH INHERIT FALSE, SET TRUE" if connection.info.server_version >= 160_000 else ""
    return sql.SQL("GRANT {} TO {}" + options).format(sql.Identifier(role), sql.Identifier(login))


def _grants_pending(connection: Connection, *, everything: bool) -> list[sql.Composed]:
    database = sql.Identifier(connection.info.dbname)
    return [
        sql.SQL(statement).format(database=database)
        for missing, statement in GRANTS.items()
        if everything or _exists(connection, f"SELECT WHERE {missing}")
    ]


def _make_login(connection: Connection, password: str) -> None:
    verb = "ALTER" if _role_exists(connection, LOGIN) else "CREATE"
    text = f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOINHERIT PASSWORD {{}}"
    connection.execute(sql.SQL(text).format(sql.Identifier(LOGIN), sql.Literal(password)))


def _role_exists(connection: Connection, role: str) -> bool:
    return _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s", role)


def _exists(connection: Connection, query: str, *parameters: str) -> bool:
    return connection.execute(query, parameters or None).fetchone() is not None


def _request(connection: Connection, login: str, statements: Sequence[sql.Composed]) -> str:
    text = "\n".join(f"    {statement.as_string(connection)};" for statement in statements)
    return f"The login {login} of DATABASE_URL may not prepare the database; let its administrator run there:\n{text}"
