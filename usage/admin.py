"""Calls and what they cost, and prices."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest

from core.admin.lists import SinceFilter
from core.admin.parts import (
    MultipleChoicesDropdownFilter,
    TextFilter,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    display,
)
from tenants.admin_base import EventAdmin, ServiceAdmin, ServiceForm, actor_of, may
from usage.admin_parts import dollars, dollars_of
from usage.models import Price, UsageRecord
from usage.services.prices import price_create, price_delete
from usage.tables import plain
from usage.totals import Sums

CERTAINTY_LABELS = {"exact": "success", "estimated": "info", "unknown": "warning"}
TOKENS = {
    "Input": "input_tokens",
    "of it cached": "cached_tokens",
    "of it written to a cache": "cache_write_tokens",
    "Output": "output_tokens",
    "of it reasoning": "reasoning_tokens",
}
MOST_CALLS = 100  # of one run, on its page


class ModelFilter(TextFilter):
    title = "model (the beginning of its name)"
    parameter_name = "model"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(model__startswith=self.value()) if self.value() else queryset


class AgentFilter(TextFilter):
    title = "agent (its slug)"
    parameter_name = "agent"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(agent=self.value()) if self.value() else queryset


class UsageRecordAdmin(EventAdmin):
    perm = "usage"
    heading, noun = "Calls", "call"
    view_template = "operators/usage_record.html"
    list_display = ("created_at", "target", "agent", "outcome", "tokens", "money", "took", "certainty_label")
    list_display_links = ("created_at",)
    list_filter = (SinceFilter, ("certainty", MultipleChoicesDropdownFilter), ModelFilter, AgentFilter)
    search_fields = ("end_user__exact",)
    search_ids = ("id", "run_id", "session_id")
    search_help_text = "A call's, run's or session's full id, or a user"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("prices")

    @display(description="Model", header=True)
    def target(self, record: UsageRecord) -> list[str]:
        return [f"{record.provider}/{record.model}", f"by route {record.route}" if record.route else ""]

    @display(description="Outcome")
    def outcome(self, record: UsageRecord) -> str:
        return _outcome(record)

    @display(description="Tokens")
    def tokens(self, record: UsageRecord) -> str:
        return f"{record.input_tokens:,} in, {record.output_tokens:,} out"

    @display(description="Cost")
    def money(self, record: UsageRecord) -> str:
        return dollars(record.cost)

    @display(description="Took")
    def took(self, record: UsageRecord) -> str:
        return f"{record.total_ms:,} ms"

    @display(description="Counted", label=CERTAINTY_LABELS)
    def certainty_label(self, record: UsageRecord) -> tuple[str, str]:
        return record.certainty, record.get_certainty_display()

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        record: UsageRecord = obj
        prices = {name.replace("_", " "): value for name, value in (record.prices or {}).items()}
        legs = UsageRecord.objects.filter(tenant_id=record.tenant_id, run_id=record.run_id).exclude(run_id=None)
        return {
            "title": "Call",
            "record": record,
            "certainty_variant": CERTAINTY_LABELS[record.certainty],
            "outcome": _outcome(record),
            "took": f"{record.total_ms:,} ms",
            "first_token": None if record.first_token_ms is None else f"{record.first_token_ms:,} ms",
            "tokens": {name: f"{getattr(record, column):,}" for name, column in TOKENS.items()},
            "cost": dollars(record.cost),
            "charge": dollars(record.charge),
            "saved": dollars(record.saved),
            "saved_by": "" if not record.cached else "sharing the answer" if _is_shared(record) else "the cache",
            "source": prices.pop("source", ""),
            "markup": _percent(Decimal(prices.pop("markup percent", None) or 0)),
            "prices": {name: f"${plain(Decimal(price))}" for name, price in prices.items()},
            "may_see_run": may(request, "run.view"),
            "calls": _calls(legs),
        }


def _is_shared(record: UsageRecord) -> bool:
    return record.cached and record.reason.startswith(UsageRecord.JOINED)


def _outcome(record: UsageRecord) -> str:
    free = "shared answer" if _is_shared(record) else "from the cache"
    return record.error_code or (free if record.cached else record.finish_reason) or "—"


def _percent(value: Decimal) -> str:
    return f"{value.normalize():f} %" if value else ""


def _calls(records: QuerySet[UsageRecord]) -> list[dict[str, Any]]:
    found = records.order_by("created_at", "fence", "number", "attempt")[:MOST_CALLS]
    return [
        {
            "record": record,
            "outcome": _outcome(record),
            "tokens": f"{record.input_tokens:,} in, {record.output_tokens:,} out",
            "took": f"{record.total_ms:,} ms",
            "cost": dollars(record.cost),
            "saved": dollars(record.saved),
        }
        for record in found
    ]


def run_calls(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    """What operators/run_calls.html shows of a run; nothing to who may not see usage."""
    if not may(request, "usage.view"):
        return {}
    rows = UsageRecord.objects.filter(tenant_id=actor_of(request).tenant_id, run_id=run_id)
    found = rows.aggregate(calls=Count("id"), unknown=Count("id", filter=Q(cost=None)), spent=Sum("cost"))
    sums = Sums(cost=found["spent"] or Decimal(0), unknown=found["unknown"])
    return {"calls": _calls(rows), "calls_made": found["calls"], "calls_cost": dollars_of(sums, sums.cost)}


class PriceForm(ServiceForm):
    provider = forms.CharField(
        required=False, max_length=63, widget=UnfoldAdminTextInputWidget(), help_text="Its slug; empty: every provider."
    )
    model = forms.CharField(
        max_length=255,
        widget=UnfoldAdminTextInputWidget(),
        help_text="A model's name; gpt-4o* means all names that begin so, * every model.",
    )
    input = forms.DecimalField(
        required=False,
        label="Input",
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="US dollars for a million tokens. Leave it and output empty to keep the list price.",
    )
    output = forms.DecimalField(required=False, label="Output", widget=UnfoldAdminDecimalFieldWidget())
    cached = forms.DecimalField(
        required=False, label="Cached input", widget=UnfoldAdminDecimalFieldWidget(), help_text="Empty: as input."
    )
    cache_write = forms.DecimalField(
        required=False, label="Written to a cache", widget=UnfoldAdminDecimalFieldWidget(), help_text="Empty: as input."
    )
    markup_percent = forms.DecimalField(
        label="Mark-up in percent",
        initial=0,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="What is added for the charge-back, and counted by budgets.",
    )
    effective_from = forms.SplitDateTimeField(
        required=False, label="In force from", widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC; empty: at once."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance:
            found = {name: getattr(self.instance, name) for name in self.fields}
            self.initial = {name: plain(it) if isinstance(it, Decimal) else it for name, it in found.items()}

    def save(self) -> Price:
        return price_create(actor=self.actor, **self.cleaned_data)


class PriceAdmin(ServiceAdmin):
    """A price never changes, since records tell of it: another one replaces it."""

    perm = "price"
    heading, noun = "Prices", "price"
    empty_hint = "Models cost what their vendors list. Add prices of your own, or a mark-up for your customers."
    service_form = PriceForm
    list_display = ("models", "unit_prices", "markup", "effective_from", "state")
    list_display_links = ("models",)
    search_fields = ("model__startswith", "provider__startswith")
    search_help_text = "The beginning of a model's or provider's name"
    sortable_by = ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Models", header=True)
    def models(self, price: Price) -> list[str]:
        return [price.model, f"at {price.provider}" if price.provider else "at every provider"]

    @display(description="Input / output for a million tokens")
    def unit_prices(self, price: Price) -> str:
        if price.input is None or price.output is None:
            return "list price"
        return f"${plain(price.input)} / ${plain(price.output)}"

    @display(description="Mark-up")
    def markup(self, price: Price) -> str:
        return _percent(price.markup_percent) or "—"

    @display(description="Status", label={"now": "success", "later": "info"})
    def state(self, price: Price) -> tuple[str, str]:
        return ("now", "In force") if price.effective_from <= datetime.now(UTC) else ("later", "Later")

    def delete_through(self, request: HttpRequest, obj: Price) -> None:
        price_delete(actor=actor_of(request), ref=str(obj.id))
