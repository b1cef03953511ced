"""Rows of what every turn writes, each by one statement with one parameter.

Django's compiler and a parameter for each column cost several times what PostgreSQL does with the row.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
from django.db import connections, models, router


def row_insert(row: models.Model) -> None:
    """As `row.save(force_insert=True)`, without signals; for columns whose values JSON can express."""
    fields: Any = row._meta.concrete_fields
    values = {field.column: field.pre_save(row, True) for field in fields}
    _execute(row, _insert(row._meta.db_table, tuple(values)), values)
    row._state.adding = False


def row_update(row: models.Model, names: Sequence[str]) -> None:
    """The fields `names` of a row with the columns `id` and `tenant_id`. Nothing happens when there is no such row."""
    fields: Any = [row._meta.get_field(name) for name in names]
    values = {field.column: getattr(row, field.attname) for field in fields}
    keys = {name: getattr(row, name) for name in ("id", "tenant_id")}
    _execute(row, _update(row._meta.db_table, tuple(values)), {**values, **keys})


def _execute(row: models.Model, sql: str, values: dict[str, Any]) -> None:
    given = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    with connections[router.db_for_write(type(row))].cursor() as cursor:
        cursor.execute(sql, [given])


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    """A column that a newer release has added keeps its default."""
    names = ", ".join(f'"{column}"' for column in columns)
    return f'INSERT INTO "{table}" ({names}) SELECT {names} FROM jsonb_populate_record(NULL::"{table}", %s::jsonb)'  # noqa: S608


@cache
def _update(table: str, columns: tuple[str, ...]) -> str:
    taken = ", ".join(f'"{column}" = given."{column}"' for column in columns)
    given = f'jsonb_populate_record(NULL::"{table}", %s::jsonb) AS given'
    where = f'"{table}".id = given.id AND "{table}".tenant_id = given.tenant_id'
    return f'UPDATE "{table}" SET {taken} FROM {given} WHERE {where}'  # noqa: S608
