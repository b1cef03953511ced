"""Answers of a query in bounded memory: rows come one by one, and the server itself cuts long cells."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from psycopg import postgres
from psycopg.adapt import Buffer, Loader
from psycopg.pq.abc import PGresult

from toolsets.kinds.database.connection import Connection

Row = tuple[bytes | None, ...]
# The beginning of a message that may hold one statement: with it the server itself refuses all but queries.
CURSOR = b"DECLARE question NO SCROLL CURSOR FOR "
TEXT_OID = postgres.types["text"].oid
BYTEA_OID = postgres.types["bytea"].oid
RECORD_OID = postgres.types["record"].oid
_TYPES = b"""
SELECT pg_catalog.format_type(o.oid, o.mod), t.oid, t.typcategory::text
FROM unnest(%s::oid[], %s::int4[]) WITH ORDINALITY AS o(oid, mod, place) JOIN pg_catalog.pg_type t ON t.oid = o.oid
ORDER BY o.place
"""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    oid: int
    category: str  # pg_type.typcategory: A for arrays, C for composite types

    @property
    def compound(self) -> bool:
        return self.category in ("A", "C") or self.oid == RECORD_OID


class RawLoader(Loader):
    """As the server sent it, which may be no UTF-8 though we asked for that."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


async def described(connection: Connection, sql: bytes) -> list[Column]:
    """The columns of a query, of which nothing runs yet. An error of the server for what is no single query.

    `binary` is for the extended protocol, which takes no second statement; there is no result to be binary.
    """
    await connection.execute(CURSOR + sql, binary=True)
    result = (await connection.execute(b"FETCH FORWARD 0 FROM question")).pgresult
    assert result is not None
    return await columns_of(connection, result)


async def columns_of(connection: Connection, result: PGresult) -> list[Column]:
    places = range(result.nfields)
    types = await connection.execute(
        _TYPES, [[result.ftype(place) for place in places], [result.fmod(place) for place in places]]
    )
    names = [(result.fname(place) or b"").decode("utf-8", "replace") for place in places]
    return [Column(name, *kind) for name, kind in zip(names, await types.fetchall(), strict=True)]


def shortened(sql: bytes, columns: list[Column], *, rows: int, length: int) -> bytes:
    """A described query with `rows` rows at most, and text columns only, of `length` + 1 characters at most.

    It is run as it is, since a FETCH makes the server gather all rows before it sends one.
    """
    names = [f"c{place}" for place in range(len(columns))]
    cells = ", ".join(_cell(name, column, length) for name, column in zip(names, columns, strict=True))
    return b"SELECT %s FROM (%s\n) AS q(%s) LIMIT %d" % (cells.encode(), sql, ", ".join(names).encode(), rows)


def _cell(name: str, column: Column, length: int) -> str:
    """Arrays and composite types become JSON; of bytes, no more are written out than are shown."""
    value = f"{name}::text"
    if column.compound:
        value = f"to_json({name})::text"
    elif column.oid == BYTEA_OID:
        value = f"substring({name} FROM 1 FOR {length})::text"
    return f"pg_catalog.left({value}, {length + 1})"


async def streamed(connection: Connection, sql: bytes) -> AsyncGenerator[Row, None]:
    """Rows of text. To close it before its end ends the statement at the server."""
    async with connection.cursor() as cursor:
        cursor.adapters.register_loader(TEXT_OID, RawLoader)
        stream = cast(AsyncGenerator[Row, None], cursor.stream(sql))  # psycopg calls it an iterator
        async with aclosing(stream) as rows:
            async for row in rows:
                yield row


async def plan(connection: Connection, sql: bytes) -> AsyncGenerator[str, None]:
    """The lines of EXPLAIN for a described query, which does not run."""
    async with aclosing(streamed(connection, b"EXPLAIN (FORMAT TEXT) (%s\n)" % sql)) as rows:
        async for (line,) in rows:
            yield (line or b"").decode("utf-8", "replace")
