"""Rows of what every turn writes, each by one statement with one parameter.

Django's compiler and a parameter for each column cost several times what PostgreSQL does with the row.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections, models, router


def row_insert(row: models.Model) -> None:
    """As `row.save(force_insert=True)`, without signals; for columns whose values JSON can express."""
    plain, made = _columns(type(row))
    values = {column: row.__dict__[attribute] for column, attribute in plain}
    values |= {field.column: field.pre_save(row, True) for field in made}
    values_insert(type(row), values)
    row._state.adding = False


def values_insert(model: type[models.Model], values: dict[str, Any]) -> None:
    """A row by its columns' values."""
    sql = insert_sql(model._meta.db_table, tuple(values))
    send(sql, as_given([values]), using=router.db_for_write(model))


@cache
def _columns(model: type[models.Model]) -> tuple[list[tuple[str, str]], list[Any]]:
    """Those that a row has as attributes, and the fields that make their values when it is stored."""
    fields: Any = model._meta.concrete_fields
    plain = [field for field in fields if type(field).pre_save is models.Field.pre_save]
    return [(field.column, field.attname) for field in plain], [field for field in fields if field not in plain]


def row_update(row: models.Model, names: Sequence[str]) -> None:
    """The fields `names` of a row with the columns `id` and `tenant_id`. Nothing happens when there is no such row."""
    fields: Any = [row._meta.get_field(name) for name in names]
    values = {field.column: getattr(row, field.attname) for field in fields}
    keys = {name: getattr(row, name) for name in ("id", "tenant_id")}
    sql = _update(row._meta.db_table, tuple(values))
    send(sql, as_given([{**values, **keys}]), using=router.db_for_write(type(row)))


def send(sql: str, *texts: str | None, using: str = DEFAULT_DB_ALIAS) -> None:
    """A statement whose answer nobody needs, with texts in the place of $1, $2, …

    In a transaction it goes with the next one, which may tell its error.
    """
    connection: Any = connections[using]
    connection.send_later(sql, *texts)


def ask(sql: str, *texts: str | None, using: str = DEFAULT_DB_ALIAS) -> list[Any]:
    """The rows of a statement, as `send` takes it."""
    connection: Any = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(connection.statement(sql, *texts))
        rows: list[Any] = cursor.fetchall()
        return rows


def as_given(rows: Sequence[dict[str, Any]]) -> str:
    """The parameter of `insert_sql`."""
    return orjson.dumps(rows, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@cache
def insert_sql(table: str, columns: tuple[str, ...]) -> str:
    """Of rows with these columns, given as $1. A column that a newer release has added keeps its default."""
    names = ", ".join(f'"{column}"' for column in columns)
    given = f'jsonb_populate_recordset(NULL::"{table}", $1::jsonb)'
    return f'INSERT INTO "{table}" ({names}) SELECT {names} FROM {given}'  # noqa: S608


@cache
def _update(table: str, columns: tuple[str, ...]) -> str:
    taken = ", ".join(f'"{column}" = given."{column}"' for column in columns)
    given = f'jsonb_populate_recordset(NULL::"{table}", $1::jsonb) AS given'
    where = f'"{table}".id = given.id AND "{table}".tenant_id = given.tenant_id'
    return f'UPDATE "{table}" SET {taken} FROM {given} WHERE {where}'  # noqa: S608
