"""Tables as CSV (RFC 4180), streamed, and safe to open in a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from core.download import Download

ROWS_A_PIECE = 500
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"-\d+(\.\d+)?")


class CsvResponse(Download):
    """`rows` may read the database while they are sent.

    Text that a spreadsheet would calculate gets a `'` first; a negative number stays one.
    """

    def __init__(self, filename: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        super().__init__(filename, "text/csv; charset=utf-8", _pieces(chain([header], rows)))


def _pieces(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    rows = iter(rows)
    while some := list(islice(rows, ROWS_A_PIECE)):
        text = io.StringIO()
        csv.writer(text).writerows([_safe(cell) for cell in row] for row in some)
        yield text.getvalue().encode()


def _safe(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
