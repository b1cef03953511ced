"""Rows as the JSON that the model reads, capped, and with a note of what was cut."""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson
from psycopg import postgres

from toolsets.exceptions import ToolError
from toolsets.kinds.database.rows import Column, Row

MIN_CELL = 100  # characters
LONGEST_ESCAPE = 6  # bytes of one character as JSON: \u0001
_NUMBERS = frozenset(
    postgres.types[name].oid for name in ("int2", "int4", "int8", "float4", "float8", "numeric", "oid")
)
_JSON = frozenset(postgres.types[name].oid for name in ("json", "jsonb"))
_BOOL = postgres.types["bool"].oid
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass
class Capped:
    """Pieces of JSON as long as they fit; `cut` says what ran out first: "rows" or "bytes"."""

    rows: int
    size: int
    pieces: list[Any] = field(default_factory=list)
    cut: str = ""

    def add(self, piece: bytes) -> bool:
        """Did it fit?"""
        if len(self.pieces) >= self.rows:
            self.cut = self.cut or "rows"
        elif len(piece) + 1 > self.size:
            self.cut = self.cut or "bytes"
        else:
            self.size -= len(piece) + 1
            self.pieces.append(orjson.Fragment(piece))
        return not self.cut


class Answer:
    """The rows of one statement, as JSON after other `facts`. Raises ToolError where not one row fits.

    `more` is what helps where they are cut.
    """

    def __init__(
        self, columns: list[Column], *, max_rows: int, max_bytes: int, more: str = "Narrow the query, go on with OFFSET"
    ) -> None:
        self._columns, self._more = columns, more
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._heads = orjson.dumps([{"name": column.name, "type": column.type} for column in columns])
        self._capped = Capped(max_rows, max_bytes - len(self._heads))
        self._cells_cut = False
        self.cell_length = self._shown = max(MIN_CELL, max_bytes // (len(columns) + 1))

    def add(self, row: Row) -> bool:
        """Is there room for more? A first row that is too long because of what JSON escapes has its cells cut again."""
        if not self._capped.add(self._encoded(row)) and not self._capped.pieces:
            self._capped.cut = ""
            self._shown //= LONGEST_ESCAPE
            if not self._capped.add(self._encoded(row)):
                raise ToolError(f"One row has over {self._max_bytes:,} bytes: select fewer columns.")
        return self._capped.cut != "bytes"

    def json(self, **facts: Any) -> str:
        answer = {**facts, "columns": orjson.Fragment(self._heads), "rows": self._capped.pieces, **self._note()}
        return orjson.dumps(answer).decode()

    def _encoded(self, row: Row) -> bytes:
        return orjson.dumps([self._value(column, cell) for column, cell in zip(self._columns, row, strict=True)])

    def _value(self, column: Column, cell: bytes | None) -> Any:
        """JSON where the type has it, digit for digit; else PostgreSQL's text."""
        if cell is None:
            return None
        text = cell.decode("utf-8", "replace")
        if len(text) > self._shown:
            self._cells_cut = True
            return f"{text[: self._shown]}…"
        if column.compound or column.oid in _JSON or (column.oid in _NUMBERS and _JSON_NUMBER.fullmatch(text)):
            return orjson.Fragment(text)
        return text in ("true", "t") if column.oid == _BOOL else text  # as a cast to text writes it, and as it is

    def _note(self) -> dict[str, str]:
        notes = []
        shown = len(self._capped.pieces)
        if self._capped.cut:
            notes.append(f"Cut after {shown} rows, there are more. {self._how(self._capped.cut)}")
        if self._cells_cut:
            notes.append(
                "Cells that end with … were cut: ask for fewer columns, or read on with "
                f"substring(column FROM {self._shown + 1})."
            )
        return {"note": " ".join(notes)} if notes else {}

    def _how(self, cut: str) -> str:
        setting, value = ("max_rows", self._max_rows) if cut == "rows" else ("max_bytes", self._max_bytes)
        return f"{self._more}, or have the toolset's {setting} (now {value:,}) raised."
