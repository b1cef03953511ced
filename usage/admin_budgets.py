"""Budgets: their form, what is spent and left of them, and where they are heading."""

from typing import Any

from django import forms
from django.core.cache import cache
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin.parts import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
    display,
)
from tenants.admin_base import ServiceAdmin, ServiceForm, actor_of
from usage.admin_parts import amount, bar
from usage.admin_subjects import subject_id, subject_names, subjects_offered
from usage.models import Budget, BudgetPeriod
from usage.outlook import budget_outlook
from usage.selectors import current_periods, with_current_periods
from usage.services.budgets import FIXED, budget_create, budget_delete, budget_update

NAMES_SECONDS = 60


class BudgetForm(ServiceForm):
    fieldsets = [
        (None, ["slug", "scope", "subject", "period", "unit", "amount", "hard", "is_active"]),
        ("Notices", ["notify_at", "notify_emails"]),
    ]

    slug = forms.SlugField(max_length=63, widget=UnfoldAdminTextInputWidget())
    scope = forms.ChoiceField(
        choices=Budget.Scope.choices, widget=UnfoldAdminSelectWidget(), help_text="Whose spending counts."
    )
    subject = forms.CharField(
        required=False,
        max_length=200,
        label="Of which one",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "budget-subjects", "autocomplete": "off"}),
        help_text="An agent's slug, a member's username or e-mail, an API key's name or prefix, an end user's name, "
        "or the id of any, also of a session or run. Empty: each one for itself.",
    )
    period = forms.ChoiceField(
        choices=Budget.Period.choices,
        initial=Budget.Period.MONTH,
        widget=UnfoldAdminSelectWidget(),
        help_text="UTC.",
    )
    unit = forms.ChoiceField(choices=Budget.Unit.choices, widget=UnfoldAdminSelectWidget())
    amount = forms.DecimalField(
        max_digits=24, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget(), help_text="For each period."
    )
    hard = forms.BooleanField(
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Calls that would pass the amount are refused. Off: they are counted only.",
    )
    is_active = forms.BooleanField(required=False, initial=True, label="Active", widget=UnfoldBooleanSwitchWidget())
    notify_at = forms.CharField(
        required=False,
        max_length=100,
        label="Tell at",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Shares in percent, such as 50, 80, 100.",
    )
    notify_emails = forms.CharField(
        required=False,
        max_length=6000,
        label="Tell whom",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="An e-mail address on each line.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if budget := self.instance:
            self.initial = {name: getattr(budget, name) for name in self.fields}
            self.initial["amount"] = f"{budget.amount.normalize():f}"
            self.initial["notify_at"] = ", ".join(map(str, budget.notify_at))
            self.initial["subject"] = _named(budget, budget.subject)
            self.initial["notify_emails"] = "\n".join(budget.notify_emails)
            for name in FIXED:
                self.fields[name].disabled = True

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if self.instance is None and found.get("subject") and "scope" in found:
            try:
                found["subject"] = subject_id(self.actor.tenant_id, found["scope"], found["subject"])
            except forms.ValidationError as fault:
                self.add_error("subject", fault)
        return found

    def clean_notify_at(self) -> list[int]:
        words = self.cleaned_data["notify_at"].replace("%", " ").replace(",", " ").split()
        if not all(word.isascii() and word.isdecimal() and len(word) < 5 for word in words):
            raise forms.ValidationError("Give whole numbers.")
        return [int(word) for word in words]

    def clean_notify_emails(self) -> list[str]:
        return str(self.cleaned_data["notify_emails"]).replace(",", " ").split()

    def save(self) -> Budget:
        found = self.cleaned_data
        if self.instance is None:
            return budget_create(actor=self.actor, **found)
        changes = {name: value for name, value in found.items() if name not in FIXED}
        return budget_update(actor=self.actor, ref=str(self.instance.id), changes=changes)


class BudgetAdmin(ServiceAdmin):
    perm = "budget"
    heading, noun = "Budgets", "budget"
    empty_hint = "Nothing bounds what is spent. A budget refuses calls that would pass it, or tells people by e-mail."
    service_form = BudgetForm
    change_form_outer_after_template = "operators/budget.html"
    list_display = ("slug", "whose", "spent", "rule", "state")
    search_fields = ("slug__startswith",)
    search_help_text = "The beginning of a slug"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_current_periods(super().get_queryset(request), tenant_id=actor_of(request).tenant_id)

    @display(description="Of", header=True)
    def whose(self, budget: Budget) -> list[str]:
        each = "" if budget.scope == Budget.Scope.TENANT else _named(budget, budget.subject) or "each one for itself"
        return [budget.get_scope_display(), each]

    @display(description="Spent in this period")
    def spent(self, budget: Budget) -> SafeString | str:
        periods = current_periods(budget)
        if not periods:
            return "nothing yet"
        most = periods[0]
        if budget.sole_subject:
            return bar(budget, most)
        return format_html('<span class="meter">{}<span>by the one who spent most</span></span>', bar(budget, most))

    @display(description="Amount")
    def rule(self, budget: Budget) -> str:
        each = "in all" if budget.period == Budget.Period.TOTAL else f"a {budget.period}"
        return f"{amount(budget.amount, budget.unit)} {each}, {'refuses' if budget.hard else 'tells'}"

    @display(description="Status", label={"on": "success", "off": "default"})
    def state(self, budget: Budget) -> tuple[str, str]:
        return ("on", "Active") if budget.is_active else ("off", "Off")

    def form_context(self, request: HttpRequest, form: ServiceForm, obj: Budget | None) -> dict[str, Any]:
        if obj is None:
            return {"subjects": subjects_offered(actor_of(request).tenant_id)}
        shown = {"unit": obj.unit, "each": not obj.sole_subject}
        periods = obj.periods.filter(tenant_id=obj.tenant_id)[:12]
        rows, current = ([_row(obj, period) for period in found] for found in (periods, current_periods(obj)))
        return {"budget": obj, "current": current, "periods": rows, **shown, **_outlook(request, obj)}

    def delete_through(self, request: HttpRequest, obj: Budget) -> None:
        budget_delete(actor=actor_of(request), ref=str(obj.id))


def _named(budget: Budget, subject: str) -> str:
    """What people call the subject, as of this minute."""
    names = cache.get_or_set("budget:subjects", lambda: subject_names(budget.tenant_id), NAMES_SECONDS) or {}
    return str(names.get(subject, subject))


def _outlook(request: HttpRequest, budget: Budget) -> dict[str, Any]:
    if not budget.sole_subject:
        return {}
    outlook = budget_outlook(actor=actor_of(request), budget=budget)
    found = outlook.forecast
    words = {name: amount(getattr(found, name), budget.unit) for name in ("value", "low", "high")} if found else None
    return {"outlook": outlook, "forecast": words, "month_spent": amount(outlook.spent, budget.unit)}


def _row(budget: Budget, period: BudgetPeriod) -> dict[str, Any]:
    told = ", ".join(str(share) for share in sorted(budget.notify_at) if share <= period.notified_at)
    nothing = "no notice sent" if budget.notify_at else ""
    return {
        "period": period,
        "bar": bar(budget, period),
        "name": _named(budget, period.subject),
        "left": f"{amount(period.left(budget.amount), budget.unit)} left",
        "held": f"{amount(period.reserved, budget.unit)} held for calls under way" if period.reserved else "",
        "told": f"told at {told} %" if told else nothing,
    }
