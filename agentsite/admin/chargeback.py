"""What every tenant used in a month, for platform staff; a tenant is told of each look at its figures."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from core.csv_response import CsvResponse
from core.errors import InvalidRequest
from tenants.models import Tenant
from usage.admin_parts import dollars, dollars_of
from usage.budgets import months
from usage.invoices import Month, invoice, month_total, parse_month
from usage.tables import INVOICE_COLUMNS, invoice_rows

OPS = "ops"
TENANTS_PER_PAGE = 50
MONTHS_SHOWN = 13
Look = Callable[[Tenant], None]


def chargeback(request: HttpRequest, frame: dict[str, Any], look: Look) -> HttpResponseBase:
    """`frame` is the site's context; `look` tells a tenant that its figures are shown. With `format=csv`, all lines."""
    try:
        month = parse_month(request.GET.get("month", ""))
    except InvalidRequest:
        month = parse_month("")
    tenants = Tenant.objects.using(OPS).order_by("slug")
    name = f"{month[0]:%Y-%m}"
    if request.GET.get("format") == "csv":
        return CsvResponse(f"charge-back-{name}.csv", ("tenant", *INVOICE_COLUMNS), _lines(list(tenants), month, look))
    page = Paginator(tenants, TENANTS_PER_PAGE).get_page(request.GET.get("page"))
    rows = [_row(tenant, month, look) for tenant in page]
    context = {"title": "Charge-back", "month": name, "months": _months(), "page": page, "rows": rows}
    return TemplateResponse(request, "operators/chargeback.html", {**frame, **context})


def _months() -> list[str]:
    now = datetime.now(UTC)
    return [f"{start:%Y-%m}" for start in (now, *(start for start, _ in months(now, MONTHS_SHOWN - 1)))]


def _row(tenant: Tenant, month: Month, look: Look) -> dict[str, Any]:
    look(tenant)
    sums = month_total(tenant.id, month, using=OPS)
    return {
        "tenant": tenant,
        "calls": f"{sums.calls:,}",
        "tokens": f"{sums.input_tokens + sums.output_tokens:,}",
        "cost": dollars_of(sums, sums.cost),
        "markup": dollars(sums.charge - sums.cost),
        "charge": dollars_of(sums, sums.charge),
    }


def _lines(tenants: Sequence[Tenant], month: Month, look: Look) -> Iterator[Sequence[Any]]:
    for tenant in tenants:
        look(tenant)
        yield from ([tenant.slug, *row] for row in invoice_rows(invoice(tenant.id, month, using=OPS)))
