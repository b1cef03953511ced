"""Reports, single calls and the month's charge-back, as JSON or CSV."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate_latest
from core.api_schema import LIST_PARAMETERS, errors_of, list_of
from core.csv_response import CsvResponse
from core.errors import InvalidRequest
from core.validation import parse
from tenants.api.base import ApiView
from usage import selectors
from usage.api import serializers as io
from usage.dimensions import BUCKETS, DIMENSIONS
from usage.invoices import Invoice, usage_invoice
from usage.models import UsageRecord
from usage.reports import MOST_CSV_ROWS, MOST_ROWS, Filters, Report, ReportParameters, usage_report
from usage.tables import INVOICE_COLUMNS, invoice_rows, plain, report_table
from usage.totals import Sums, Totals

_IDS = {"session", "run", "user", "api_key", "agent_id"}
FORMAT = OpenApiParameter("format", str, enum=["json", "csv"], description="As `Accept: text/csv` does.")
TIME = [
    OpenApiParameter("from", OpenApiTypes.DATETIME, description="A time with a zone, or a date (UTC)."),
    OpenApiParameter("to", OpenApiTypes.DATETIME, description="Before which; a time with a zone, or a date (UTC)."),
]
FILTERS = [
    OpenApiParameter(
        name,
        OpenApiTypes.UUID if name in _IDS else OpenApiTypes.BOOL if name == "cached" else OpenApiTypes.STR,
        description="Only these calls; an empty text finds those without one.",
    )
    for name in DIMENSIONS
]
GROUPS = OpenApiParameter("group_by", str, description=f"At most two of {', '.join(DIMENSIONS)}, with a comma between.")
BUCKET = OpenApiParameter("bucket", str, enum=list(BUCKETS), description="UTC; a week begins on Monday.")
MONTH = OpenApiParameter("month", str, description="Such as 2026-11; without it, this month.")


def wants_csv(request: Request) -> bool:
    """`format`, else what `Accept` names first."""
    asked = request.GET.get("format", "")
    if asked not in ("", "json", "csv"):
        raise InvalidRequest("format must be json or csv.", param="format")
    return asked == "csv" or (not asked and request.headers.get("Accept", "").startswith("text/csv"))


def without_format(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.GET.dict().items() if name != "format"}


def _answers(serializer: Any) -> dict[Any, Any]:
    table = OpenApiResponse(OpenApiTypes.STR, description="The same as a table.")
    return {200: serializer, (200, "text/csv"): table, **errors_of()}


class UsageView(ApiView):
    @extend_schema(
        parameters=[*TIME, GROUPS, BUCKET, *FILTERS, FORMAT],
        responses=_answers(io.UsageReportOutput),
        operation_id="usage_report",
        tags=["usage"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """What was used, summed up by at most two dimensions and a time bucket. Without a time: this month."""
        as_csv = wants_csv(request)
        asked = parse(ReportParameters, without_format(request))
        report = usage_report(actor=self.actor, asked=asked, most=MOST_CSV_ROWS if as_csv else MOST_ROWS)
        return CsvResponse(*report_table(report)) if as_csv else Response(report_json(report))


class UsageRecordsView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, *TIME, *FILTERS],
        responses={200: list_of(io.RecordOutput), **errors_of()},
        operation_id="usage_records",
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        """Single calls of providers, the latest first."""
        given = {name: value for name, value in request.GET.dict().items() if name not in ("limit", "cursor")}
        asked = parse(Filters, given)
        rows = selectors.record_list(actor=self.actor, start=asked.from_, end=asked.to, **asked.filters)
        return paginate_latest(request, rows, record_json)


class UsageInvoiceView(ApiView):
    @extend_schema(
        parameters=[MONTH, FORMAT],
        responses=_answers(io.InvoiceOutput),
        operation_id="usage_invoice",
        tags=["usage"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """The charge-back of a month (UTC): a line for each provider, model and agent."""
        as_csv = wants_csv(request)
        invoice = usage_invoice(actor=self.actor, month=request.GET.get("month", ""))
        if not as_csv:
            return Response(invoice_json(invoice))
        name = f"invoice-{self.actor.tenant_slug}-{invoice.month}.csv"
        return CsvResponse(name, INVOICE_COLUMNS, invoice_rows(invoice))


def record_json(record: UsageRecord) -> Any:
    return io.RecordOutput(record).data


def utc(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def sums_json(sums: Sums) -> dict[str, Any]:
    found = {name: plain(value) if isinstance(value, Decimal) else value for name, value in sums._asdict().items()}
    found["cache_hits"] = found.pop("hits")
    return {**found, "hit_rate": round(sums.hit_rate, 4)}


def totals_json(row: Totals) -> dict[str, Any]:
    times = {"first_token_ms": row.first_token_ms._asdict(), "total_ms": row.total_ms._asdict()}
    return {"bucket": utc(row.bucket), "dims": row.dims, "names": row.names, **sums_json(row.sums), **times}


def report_json(report: Report) -> dict[str, Any]:
    query = report.query
    return {
        "object": "usage",
        "start": utc(query.start),
        "end": utc(query.end),
        "group_by": query.group_by,
        "bucket": query.bucket,
        "data": [totals_json(row) for row in report.rows],
        "total": sums_json(report.total),
    }


def invoice_json(invoice: Invoice) -> dict[str, Any]:
    def priced(sums: Sums) -> dict[str, Any]:
        return {**sums_json(sums), "markup": plain(sums.charge - sums.cost)}

    return {
        "object": "invoice",
        "month": invoice.month,
        "start": utc(invoice.start),
        "end": utc(invoice.end),
        "final": invoice.final,
        "currency": "USD",
        "lines": [{**line.dims, **priced(line.sums)} for line in invoice.lines],
        "total": priced(invoice.total),
    }
