"""The page that says what was spent, when, on what and by whom."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from core.csv_response import CsvResponse
from tenants.admin_base import actor_of, may
from usage.admin_parts import chart_options, dollars
from usage.daily import midnight
from usage.invoices import month_of
from usage.reports import MOST_CSV_ROWS, Report
from usage.tables import report_table
from usage.totals import Query, Sums, Totals, summed, totals

SPANS = {"7d": "Last 7 days", "30d": "Last 30 days", "month": "This month", "last": "Last month"}
GROUPS = {
    "model": ("By model", ("provider", "model")),
    "agent": ("By agent", ("agent",)),
    "who": ("By key and member", ("api_key", "user")),
}
SHOWN = 10
CACHE_SECONDS = 60


def report_page(request: HttpRequest, frame: dict[str, Any]) -> HttpResponseBase:
    """`frame` is the site's context. With `csv`, which names one of GROUPS or `day`, the table behind it."""
    if not may(request, "usage.view"):
        raise PermissionDenied
    span = request.GET.get("span", "")
    span = span if span in SPANS else "month"
    tenant_id = actor_of(request).tenant_id
    if (by := request.GET.get("csv", "")) == "day" or by in GROUPS:
        return CsvResponse(*report_table(_report(tenant_id, span, by)))
    figures = cache.get_or_set(f"usage:{span}", lambda: _figures(tenant_id, span), CACHE_SECONDS) or {}
    choice = {"spans": SPANS.items(), "span": span}
    return TemplateResponse(request, "operators/usage.html", {**frame, "title": "Usage", **choice, **figures})


def _time(span: str) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    match span:
        case "last":
            return month_of(month_of(now)[0] - timedelta(days=1))
        case "month":
            return month_of(now)[0], now
    return midnight(now.date() - timedelta(days=int(span[:-1]) - 1)), now


def _report(tenant_id: UUID, span: str, by: str) -> Report:
    bucket, dims = ("day", ()) if by == "day" else (None, GROUPS[by][1])
    query = Query(*_time(span), dims, bucket, limit=MOST_CSV_ROWS)
    return Report(query, totals(tenant_id, query))


def _figures(tenant_id: UUID, span: str) -> dict[str, Any]:
    by_day = _report(tenant_id, span, "day")
    total = by_day.total
    if not total.calls:
        return {"total": None}
    groups = [_group(tenant_id, span, by, total) for by in GROUPS]
    return {"total": _words(total, digits=2), "groups": groups, **_chart(by_day)}


def _chart(report: Report) -> dict[str, Any]:
    found = {row.bucket.astimezone(UTC).date(): row.sums for row in report.rows if row.bucket}
    first, last = report.query.start.date(), (report.query.end - timedelta(microseconds=1)).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    costs = [float(found[day].charge) if day in found else 0.0 for day in days]
    dataset = {"label": "US dollars", "data": costs, "backgroundColor": "#3b82f6"}
    return {
        "days": [(day, _words(found.get(day, Sums()))) for day in days],
        "chart": json.dumps({"labels": [_day(day) for day in days], "datasets": [dataset]}),
        "chart_options": json.dumps(chart_options()),
    }


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _group(tenant_id: UUID, span: str, by: str, total: Sums) -> dict[str, Any]:
    rows = sorted(_report(tenant_id, span, by).rows, key=lambda row: (row.sums.charge, row.sums.calls), reverse=True)
    shown = [(_label(row), _words(row.sums), _share(row.sums.charge, total.charge)) for row in rows[:SHOWN]]
    rest = rows[SHOWN:]
    if rest:
        sums = summed(rest)
        shown.append((f"{len(rest)} others", _words(sums), _share(sums.charge, total.charge)))
    return {"title": GROUPS[by][0], "by": by, "rows": shown}


def _label(row: Totals) -> str:
    """What people call it."""
    if names := list(row.names.values()):
        return names[0]
    parts: Sequence[Any] = [value for value in row.dims.values() if value]
    if parts:
        return "/".join(map(str, parts))
    return "the model itself, no agent" if "agent" in row.dims else "the platform"


def _words(sums: Sums, digits: int = 4) -> dict[str, Any]:
    return {
        "calls": f"{sums.calls:,}",
        "failed": sums.failed,
        "tokens": f"{sums.input_tokens + sums.output_tokens:,}",
        "input": f"{sums.input_tokens:,}",
        "output": f"{sums.output_tokens:,}",
        "cost": dollars(sums.cost, digits),
        "charge": dollars(sums.charge, digits),
        "marked_up": sums.charge != sums.cost,
        "saved": dollars(sums.saved, digits),
        "hits": f"{sums.hits:,}",
        "hit_percent": 100 * sums.hit_rate,
        "failed_percent": 100 * sums.failed / sums.calls if sums.calls else 0,
        "unknown": sums.unknown,
    }


def _share(part: Decimal, whole: Decimal) -> float:
    return float(100 * part / whole) if whole else 0.0
