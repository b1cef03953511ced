"""Every statement runs under the ContextVar's tenant, or under none (docs/adr/002-tenancy.md).

Inside a transaction `app.tenant_id` is set for its length. For statements outside one, mode `session` sets it on the
connection, which loses it when it goes back to the pool; mode `local`, which is safe behind a transaction pooler, sends
each of them with its setting in one pipeline, which PostgreSQL runs as one transaction.
A database with `SERVES_TENANTS` is asked once per process whether it keeps tenants apart.
"""

import select
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base, operations
from psycopg_pool import ConnectionPool

from core.db.pooler import require_safe
from core.tenant import current_tenant

_UNKNOWN = object()
_safe: set[str] = set()  # the aliases that this process has asked
MODES = ("session", "local")


class LocalCursor(base.Cursor):
    """The cursor of mode `local`."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        tenant = current_tenant()
        if tenant is None or not self.connection.autocommit:
            return super().execute(query, params, **options)
        with self.connection.pipeline():
            psycopg.Cursor(self.connection).execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant)])
            return super().execute(query, params, **options)


class DatabaseOperations(operations.DatabaseOperations):
    def sql_flush(self, *args: Any, **options: Any) -> list[str]:
        """`flush` also empties tables that have no model and refer to one that has; PostgreSQL would refuse it."""
        statements: list[str] = super().sql_flush(*args, **{**options, "allow_cascade": True})
        return statements


class DatabaseWrapper(base.DatabaseWrapper):
    ops_class = DatabaseOperations

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied_tenant: object = _UNKNOWN
        self._applying = False
        self._keeps_tenant = False  # the connection would, beyond this use of it
        mode = self.settings_dict.get("TENANT_MODE", "session")
        if mode not in MODES:
            raise ImproperlyConfigured(f"TENANT_MODE must be one of {', '.join(MODES)}, not {mode!r}.")
        self._local = mode == "local"

    def _forget_tenant(self) -> None:
        self._applied_tenant = _UNKNOWN

    def get_connection_params(self) -> dict[str, Any]:
        parameters = super().get_connection_params()
        return {**parameters, "cursor_factory": LocalCursor} if self._local else parameters

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.settings_dict.get("SERVES_TENANTS") and self.alias not in _safe:
            require_safe(self.alias, conn_params, session=not self._local)
            _safe.add(self.alias)
        while True:
            connection = super().get_new_connection(conn_params)
            if not self.pool or _is_alive(connection):
                return connection
            self.pool.putconn(connection)  # which replaces it

    def connect(self) -> None:
        self._forget_tenant()
        super().connect()

    def _close(self) -> None:
        self._forget_tenant()
        if self._keeps_tenant and self.pool:
            self._leave_tenant()
        self._keeps_tenant = False
        super()._close()

    def _leave_tenant(self) -> None:
        """Outside of a transaction, whose rollback by the pool would bring the tenant back."""
        try:
            self.connection.rollback()
            self.connection.autocommit = True
            self.connection.execute("SELECT set_config('app.tenant_id', '', false)")
        except psycopg.Error:
            self.connection.close()  # the pool replaces it

    def _commit(self) -> None:
        self._forget_tenant()
        super()._commit()

    def _rollback(self) -> None:
        try:
            super()._rollback()
        finally:
            self._forget_tenant()  # a rollback undoes set_config

    def _savepoint_rollback(self, sid: str) -> None:
        # Forget after it, never before: set_config inside the aborted transaction would make ROLLBACK TO fail.
        self._applying = True
        try:
            super()._savepoint_rollback(sid)
        finally:
            self._applying = False
            self._forget_tenant()

    def _apply_tenant(self) -> None:
        if self._applying or self.connection is None:
            return
        wanted = str(current_tenant() or "")
        within = not self.get_autocommit()
        if wanted == self._applied_tenant or (self._local and not within):
            return
        self._applying = True
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT set_config('app.tenant_id', %s, %s)", [wanted, within])
            self._applied_tenant = wanted
            self._keeps_tenant = self._keeps_tenant or (not within and bool(wanted))
        finally:
            self._applying = False

    def _cursor(self, name: str | None = None) -> Any:
        self.ensure_connection()
        with self.wrap_database_errors:
            self._apply_tenant()
        return super()._cursor(name)


def _is_alive(connection: Any) -> bool:
    """A server that has gone closed the socket, which then has something to read; usually there is nothing."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            ConnectionPool.check_connection(connection)
    except (psycopg.Error, OSError):
        connection.close()
        return False
    return True
