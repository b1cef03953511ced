"""Every statement runs under the ContextVar's tenant, or under none (docs/adr/002-tenancy.md).

Inside a transaction `app.tenant_id` is set for its length. For statements outside one, mode `session` sets it on the
connection, which loses it when it goes back to the pool; mode `local`, which is safe behind a transaction pooler, sets
it for each statement.
BEGIN, the setting and statements whose answer nobody needs (`send_later`) do not go to the database by themselves: they
are owed, and go in one message with the next statement, or with COMMIT.
A database with `SERVES_TENANTS` is asked once per process whether it keeps tenants apart.
"""

import itertools
import re
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError
from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from psycopg.pq import Escaping
from psycopg_pool import ConnectionPool

from core.db.pooler import require_safe
from core.tenant import current_tenant

_UNKNOWN = object()
_safe: set[str] = set()  # the aliases that this process has asked
MODES = ("session", "local")
_PLACE = re.compile(r"\$(\d+)")
_numbers = itertools.count(1)
# Of a statement that is prepared: its result has changed with its tables, or the server does not have it any more.
_STALE = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)
_SET_TENANT = b"SELECT set_config('app.tenant_id', '%s', %s)"


class Cursor(base.Cursor):
    """What its connection owes goes before its statement. PostgreSQL runs a message as one transaction."""

    wrapper: "DatabaseWrapper | None" = None  # None: of a connection that Django is still preparing

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if self.wrapper is None:
            return super().execute(query, params, **options)
        owed = self.wrapper.owed()
        with self.wrapper.paying():
            if not owed:
                return super().execute(query, params, **options)
            super().execute(owed + self.mogrify(query, params).encode(), None, **options)
        return self.set_result(-1)

    def executemany(self, *args: Any, **options: Any) -> Any:
        self._pay()
        return super().executemany(*args, **options)

    def copy(self, *args: Any, **options: Any) -> Any:
        self._pay()
        return super().copy(*args, **options)

    def stream(self, *args: Any, **options: Any) -> Any:
        self._pay()
        return super().stream(*args, **options)

    def _pay(self) -> None:
        if self.wrapper:
            self.wrapper.pay()


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied_tenant: object = _UNKNOWN
        self._owed: list[bytes] = []
        self._preparing: dict[str, str] = {}  # the names of statements that are prepared by what is owed
        self._aborted = False  # PostgreSQL takes nothing but a rollback
        self._keeps_tenant = False  # the connection would, beyond this use of it
        mode = self.settings_dict.get("TENANT_MODE", "session")
        if mode not in MODES:
            raise ImproperlyConfigured(f"TENANT_MODE must be one of {', '.join(MODES)}, not {mode!r}.")
        self._local = mode == "local"
        self._begin = _begin(self.settings_dict["OPTIONS"].get("isolation_level"))

    def _forget_tenant(self) -> None:
        self._applied_tenant = _UNKNOWN

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "cursor_factory": Cursor}

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
        self._drop_owed()
        self._forget_tenant()
        super().connect()

    def _close(self) -> None:
        self._drop_owed()
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

    def _set_autocommit(self, autocommit: bool) -> None:
        """psycopg stays in autocommit mode, or it would send a BEGIN of its own. It refuses this in a transaction."""
        with self.wrap_database_errors:
            if not self.autocommit and self._owed not in ([], [self._begin]):
                raise psycopg.ProgrammingError("can't change 'autocommit' now: a transaction is owed")
        super()._set_autocommit(True)
        self._begin_anew(within=not autocommit)

    def _begin_anew(self, *, within: bool) -> None:
        """`within`: what comes next is of another transaction. A commit and a rollback undo set_config."""
        self._drop_owed()
        self._forget_tenant()
        if within:
            self._owed.append(self._begin)

    def _commit(self) -> None:
        """What is owed is not sent again when this fails."""
        try:
            if self._owed in ([], [self._begin]):
                super()._commit()
            else:
                with self.wrap_database_errors, debug_transaction(self, "COMMIT"), self.paying():
                    self.connection.execute(_message(self._owed) + b"COMMIT")
        finally:
            self._begin_anew(within=not self.autocommit)

    def _rollback(self) -> None:
        try:
            super()._rollback()
        finally:
            self._begin_anew(within=not self.autocommit)

    def _savepoint_rollback(self, sid: str) -> None:
        """What is owed since the savepoint is undone before it was done."""
        self._drop_owed()
        self._aborted = True
        try:
            super()._savepoint_rollback(sid)
        finally:
            self._aborted = False
            self._forget_tenant()

    def send_later(self, sql: str, *texts: str | None) -> None:
        """A `statement` whose answer nobody needs. In a transaction its error may come with a later one's."""
        self.ensure_connection()
        if self.autocommit:
            with self.cursor() as cursor:
                cursor.execute(self.statement(sql, *texts))
        else:
            self._owe_tenant()
            self._owed.append(self.statement(sql, *texts).encode())

    def statement(self, sql: str, *texts: str | None) -> str:
        """To be executed next, with texts in the place of $1, $2, …; PostgreSQL plans it once for a connection.

        `sql` is one of few: a connection keeps each for ever. A transaction pooler gives connections to everybody, so
        nothing is prepared in mode `local`.
        """
        self.ensure_connection()
        given = ["NULL" if text is None else self._literal(text) for text in texts]
        if self._local or not given:
            return _PLACE.sub(lambda place: given[int(place[1]) - 1], sql)
        name = self._prepared.get(sql) or self._preparing.get(sql)
        if name is None:
            name = self._preparing[sql] = f"statement_{next(_numbers)}"
            self._owed.append(f"PREPARE {name} AS {sql}".encode())
        return f"EXECUTE {name} ({', '.join(given)})"

    def _literal(self, text: str) -> str:
        if "\0" in text:  # where it would end
            raise ValueError("PostgreSQL takes no text with a NUL (0x00) character.")
        return bytes(Escaping(self.connection.pgconn).escape_literal(text.encode())).decode()

    @property
    def _prepared(self) -> dict[str, str]:
        """The names of the connection's statements, which it keeps in the pool."""
        kept: dict[str, str] = self.connection.__dict__.setdefault("prepared", {})
        return kept

    def owed(self) -> bytes:
        """What must go before the next statement."""
        if self._aborted:
            return b""
        self._owe_tenant()
        return _message(self._owed) if self._owed else b""

    @contextmanager
    def paying(self) -> Iterator[None]:
        """It is owed until it has arrived. Outside of a transaction a statement that fails undoes its message."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, _STALE):
                self._prepared.clear()
            if self.autocommit:
                self._drop_owed()
                self._forget_tenant()
            raise
        self._prepared.update(self._preparing)
        self._drop_owed()

    def _drop_owed(self) -> None:
        self._owed.clear()
        self._preparing.clear()

    def pay(self) -> None:
        """By itself, before what cannot take anything along; in mode `local` the tenant would not last until that."""
        if self._local and self.autocommit and current_tenant():
            raise NotSupportedError("In mode local this needs a transaction: a connection keeps no tenant.")
        if owed := self.owed():
            with self.wrap_database_errors, self.paying():
                self.connection.execute(owed)

    def _owe_tenant(self) -> None:
        wanted, within = str(current_tenant() or ""), not self.autocommit
        if wanted == self._applied_tenant:
            return
        if within or wanted:
            of_transaction = within or self._local
            self._owed.append(_SET_TENANT % (wanted.encode(), b"true" if of_transaction else b"false"))
        elif not self._local:  # by itself: some statements refuse company
            self.connection.execute(_SET_TENANT % (b"", b"false"))
        if within or not self._local:
            self._applied_tenant = wanted
        self._keeps_tenant = self._keeps_tenant or bool(wanted and not within and not self._local)

    def create_cursor(self, name: str | None = None) -> Any:
        if name:
            self.pay()
            make: Any = base.ServerSideCursor
            return make(self.connection, name, scrollable=False, withhold=self.autocommit)
        cursor = super().create_cursor()
        cursor.wrapper = self
        return cursor


def _begin(level: int | None) -> bytes:
    if level is None:
        return b"BEGIN"
    return b"BEGIN ISOLATION LEVEL " + psycopg.IsolationLevel(level).name.replace("_", " ").encode()


def _message(statements: Sequence[bytes]) -> bytes:
    return b"".join(statement + b"; " for statement in statements)


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
