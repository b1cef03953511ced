"""What is asked of a database before it serves tenants."""

import secrets
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured

_PROBE = "app.probe"
_ROLE = "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
_BEHIND_POOLER = (
    "Database {alias} is reached through a transaction pooler, where one tenant's setting would reach another's "
    "statements: connect to PostgreSQL directly, or set DATABASE_TENANT_MODE=local."
)
_UNBOUND = (
    "Row-level security does not bind the role {role} of database {alias}: connect with a login that may take the "
    "role app_user and that is no superuser."
)


def require_safe(alias: str, parameters: dict[str, Any], *, session: bool) -> None:
    """Raises ImproperlyConfigured for a database that could show one tenant's rows to another.

    That is one whose role row-level security does not bind, or, in mode `session`, one where a setting made on a
    connection is lost on it or seen on another.
    """
    with _connect(parameters) as first, _connect(parameters) as second:
        role, unbound = first.execute(_ROLE).fetchone() or ("?", True)
        if unbound:
            raise ImproperlyConfigured(_UNBOUND.format(alias=alias, role=role))
        if session and not _keeps_setting(first, second):
            raise ImproperlyConfigured(_BEHIND_POOLER.format(alias=alias))


def _connect(parameters: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(**{**parameters, "autocommit": True, "cursor_factory": psycopg.ClientCursor})


def _keeps_setting(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> bool:
    """A pooler gives the server connection that `first` has just left to `second`, whose transaction then keeps it."""
    token = secrets.token_hex(8)
    first.execute("SELECT set_config(%s, %s, false)", [_PROBE, token])
    with second.transaction():
        return _setting(second) != token and _setting(first) == token


def _setting(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute("SELECT current_setting(%s, true)", [_PROBE]).fetchone()
    return row[0] if row else None
