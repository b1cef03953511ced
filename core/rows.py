"""Rows of what every turn writes, each by one statement with one parameter.

Django's compiler and a parameter for each column cost several times what PostgreSQL does with the row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import orjson
from django.db import connection as default
from django.db import connections, models, router

_unsent: ContextVar[list[tuple[Any, str, list[Any]]] | None] = ContextVar("unsent", default=None)


@contextmanager
def together() -> Iterator[None]:
    """What `send` and the functions below are given meanwhile goes to the database at the end, in one message.

    In a transaction, and for one database: the statements run in their order, and the first that fails ends it.
    """
    unsent: list[tuple[Any, str, list[Any]]] = []
    token = _unsent.set(unsent)
    try:
        yield
    finally:
        _unsent.reset(token)
    if unsent:
        statements = "; ".join(sql for _, sql, _ in unsent)
        with unsent[0][0].cursor() as cursor:
            cursor.execute(statements, [each for _, _, given in unsent for each in given])


def send(sql: str, given: list[Any], connection: Any = default) -> None:
    """A statement whose answer nobody needs."""
    unsent = _unsent.get()
    if unsent is not None:
        unsent.append((connection, sql, given))
        return
    with connection.cursor() as cursor:
        cursor.execute(sql, given)


def row_insert(row: models.Model) -> None:
    """As `row.save(force_insert=True)`, without signals; for columns whose values JSON can express."""
    fields: Any = row._meta.concrete_fields
    values = {field.column: field.pre_save(row, True) for field in fields}
    _execute(row, insert_sql(row._meta.db_table, tuple(values)), values)
    row._state.adding = False


def row_update(row: models.Model, names: Sequence[str]) -> None:
    """The fields `names` of a row with the columns `id` and `tenant_id`. Nothing happens when there is no such row."""
    fields: Any = [row._meta.get_field(name) for name in names]
    values = {field.column: getattr(row, field.attname) for field in fields}
    keys = {name: getattr(row, name) for name in ("id", "tenant_id")}
    _execute(row, _update(row._meta.db_table, tuple(values)), {**values, **keys})


def _execute(row: models.Model, sql: str, values: dict[str, Any]) -> None:
    send(sql, [as_given([values])], connections[router.db_for_write(type(row))])


def as_given(rows: Sequence[dict[str, Any]]) -> str:
    """The parameter of `insert_sql`."""
    return orjson.dumps(rows, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@cache
def insert_sql(table: str, columns: tuple[str, ...]) -> str:
    """Of rows with these columns. A column that a newer release has added keeps its default."""
    names = ", ".join(f'"{column}"' for column in columns)
    given = f'jsonb_populate_recordset(NULL::"{table}", %s::jsonb)'
    return f'INSERT INTO "{table}" ({names}) SELECT {names} FROM {given}'  # noqa: S608


@cache
def _update(table: str, columns: tuple[str, ...]) -> str:
    taken = ", ".join(f'"{column}" = given."{column}"' for column in columns)
    given = f'jsonb_populate_recordset(NULL::"{table}", %s::jsonb) AS given'
    where = f'"{table}".id = given.id AND "{table}".tenant_id = given.tenant_id'
    return f'UPDATE "{table}" SET {taken} FROM {given} WHERE {where}'  # noqa: S608
