"""The page that says what was spent, when, on what and by whom."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from core.csv_response import CsvResponse
from tenants.admin_base import actor_of, may
from usage.admin_parts import chart_options, dollars, dollars_known, dollars_of
from usage.daily import midnight
from usage.invoices import month_of
from usage.reports import MOST_CSV_ROWS, MOST_DAYS, Report, ReportParameters
from usage.tables import report_table
from usage.totals import Query, Sums, Totals, summed, totals

SPANS = {"7d": "Last 7 days", "30d": "Last 30 days", "month": "This month", "last": "Last month"}
GROUPS = {
    "model": ("By model", ("provider", "model")),
    "provider": ("By provider", ("provider",)),
    "route": ("By route", ("route",)),
    "agent": ("By agent", ("agent",)),
    "who": ("By key and member", ("api_key", "user")),
    "end_user": ("By end user", ("end_user",)),
}
NOBODY = {"agent": "the model itself, no agent", "route": "no route", "end_user": "nobody named", "who": "the platform"}
ONLY_WITH_DATA = {"route", "end_user"}
SHOWN = 10
CACHE_SECONDS = 60


class Time(NamedTuple):
    """What a page is about; `given` says it in the page's address."""

    start: datetime
    end: datetime
    given: dict[str, str]


def report_page(request: HttpRequest, frame: dict[str, Any]) -> HttpResponseBase:
    """`frame` is the site's context. With `csv`, which names one of GROUPS or `day`, the table behind it."""
    if not may(request, "usage.view"):
        raise PermissionDenied
    time, fault = _time(request.GET)
    tenant_id = actor_of(request).tenant_id
    if (by := request.GET.get("csv", "")) == "day" or by in GROUPS:
        return CsvResponse(*report_table(_report(tenant_id, time, by)))
    asked = urlencode(time.given)
    figures = cache.get_or_set(f"usage:{asked}", lambda: _figures(tenant_id, time), CACHE_SECONDS) or {}
    choice = {"spans": SPANS.items(), "span": time.given.get("span"), "asked": asked, "fault": fault, **_dates(time)}
    return TemplateResponse(request, "operators/usage.html", {**frame, "title": "Usage", **choice, **figures})


def _time(given: Mapping[str, str]) -> tuple[Time, str]:
    """Own dates, both included, or one of SPANS; and what is wrong with the dates."""
    if not given.get("from") and not given.get("to"):
        return _span(given.get("span", "")), ""
    asked = {"from": given.get("from", ""), "to": given.get("to") or f"{datetime.now(UTC):%Y-%m-%d}"}
    try:
        first, last = (date.fromisoformat(text) for text in asked.values())
        found = ReportParameters.model_validate({"from": f"{first}", "to": f"{last + timedelta(days=1)}"})
    except (ValueError, OverflowError):
        return _span(""), f"Give two dates, the first one first, with at most {MOST_DAYS} days between them."
    return Time(*found.time, asked), ""


def _span(span: str) -> Time:
    now, span = datetime.now(UTC), span if span in SPANS else "month"
    given = {"span": span}
    match span:
        case "last":
            return Time(*month_of(month_of(now)[0] - timedelta(days=1)), given)
        case "month":
            return Time(month_of(now)[0], now, given)
    return Time(midnight(now.date() - timedelta(days=int(span[:-1]) - 1)), now, given)


def _dates(time: Time) -> dict[str, date]:
    return {"first_day": time.start.date(), "last_day": (time.end - timedelta(microseconds=1)).date()}


def _report(tenant_id: UUID, time: Time, by: str) -> Report:
    bucket, dims = ("day", ()) if by == "day" else (None, GROUPS[by][1])
    query = Query(time.start, time.end, dims, bucket, limit=MOST_CSV_ROWS)
    return Report(query, totals(tenant_id, query))


def _figures(tenant_id: UUID, time: Time) -> dict[str, Any]:
    by_day = _report(tenant_id, time, "day")
    total = by_day.total
    if not total.calls:
        return {"total": None}
    groups = [group for by in GROUPS if (group := _group(tenant_id, time, by, total))]
    shown = {**_words(total, digits=2), "known_cost": dollars_known(total, total.cost, digits=2)}
    return {"total": shown, "groups": groups, **_chart(by_day)}


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


def _group(tenant_id: UUID, time: Time, by: str, total: Sums) -> dict[str, Any] | None:
    """None for what nobody made use of."""
    found = _report(tenant_id, time, by).rows
    if by in ONLY_WITH_DATA and not any(any(row.dims.values()) for row in found):
        return None
    rows = sorted(found, key=lambda row: (row.sums.charge, row.sums.calls), reverse=True)
    shown = [(_label(row, by), _words(row.sums), _share(row.sums, total)) for row in rows[:SHOWN]]
    rest = rows[SHOWN:]
    if rest:
        sums = summed(rest)
        shown.append((f"{len(rest)} others", _words(sums), _share(sums, total)))
    return {"title": GROUPS[by][0], "by": by, "rows": shown}


def _label(row: Totals, by: str) -> str:
    """What people call it."""
    if names := list(row.names.values()):
        return names[0]
    return "/".join(str(value) for value in row.dims.values() if value) or NOBODY.get(by, "—")


def _words(sums: Sums, digits: int = 4) -> dict[str, Any]:
    return {
        "calls": f"{sums.calls:,}",
        "failed": sums.failed,
        "tokens": f"{sums.input_tokens + sums.output_tokens:,}",
        "input": f"{sums.input_tokens:,}",
        "output": f"{sums.output_tokens:,}",
        "cost": dollars_of(sums, sums.cost, digits),
        "charge": dollars_of(sums, sums.charge, digits),
        "marked_up": sums.charge != sums.cost,
        "saved": dollars(sums.saved, digits),
        "hits": f"{sums.hits:,}",
        "hit_percent": 100 * sums.hit_rate,
        "failed_percent": 100 * sums.failed / sums.calls if sums.calls else 0,
        "unknown": sums.unknown,
    }


def _share(part: Sums, whole: Sums) -> float | None:
    """In percent of what is charged; None where nothing is known of it."""
    if not whole.charge or (part.unknown and not part.charge):
        return None
    return float(100 * part.charge / whole.charge)
