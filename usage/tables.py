"""Reports and invoices as tables, for CSV."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from usage.dimensions import NAMED_ACTORS
from usage.invoices import LINES, Invoice
from usage.reports import Report
from usage.totals import Sums, Totals

SUMS = (
    "calls",
    "failed",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost",
    "charge",
    "saved",
    "unknown",
    "hits",
)
TIMES = ("first_token_ms_p50", "first_token_ms_p95", "total_ms_p50", "total_ms_p95")
INVOICE_SUMS = ("calls", "input_tokens", "output_tokens", "cached_tokens", "unknown", "cost")
INVOICE_COLUMNS = ("month", *LINES, *INVOICE_SUMS, "markup", "charge")


class Table(NamedTuple):
    filename: str
    header: Sequence[str]
    rows: Iterator[Sequence[Any]]


def plain(value: Decimal | None) -> str | None:
    """A decimal in full and without needless zeros."""
    return None if value is None else f"{value.normalize():f}"


def report_table(report: Report) -> Table:
    query = report.query
    bucket = [query.bucket] if query.bucket else []
    names = [f"{name}_name" for name in query.group_by if name in NAMED_ACTORS]
    header = [*bucket, *query.group_by, *names, *(name.replace("hits", "cache_hits") for name in SUMS), *TIMES]
    by = "-".join([*bucket, *query.group_by]).replace("_", "-")
    filename = f"usage-{f'by-{by}-' if by else ''}{query.start:%Y-%m-%d}.csv"
    return Table(filename, header, map(_report_row, report.rows))


def _report_row(row: Totals) -> list[Any]:
    bucket = [f"{row.bucket:%Y-%m-%dT%H:%M:%SZ}"] if row.bucket else []
    dims = [value if isinstance(value, str | int | None) else str(value) for value in row.dims.values()]
    names = [row.names.get(name, "") for name in row.dims if name in NAMED_ACTORS]
    return [*bucket, *dims, *names, *_cells(row.sums, SUMS), *row.first_token_ms, *row.total_ms]


def _cells(sums: Sums, columns: Sequence[str]) -> list[Any]:
    values = [getattr(sums, name) for name in columns]
    return [plain(value) if isinstance(value, Decimal) else value for value in values]


def invoice_rows(invoice: Invoice) -> Iterator[Sequence[Any]]:
    for line in invoice.lines:
        money = (line.sums.charge - line.sums.cost, line.sums.charge)
        yield [invoice.month, *line.dims.values(), *_cells(line.sums, INVOICE_SUMS), *map(plain, money)]
