from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import StrictSerializer, Text
from usage.models import Budget, BudgetPeriod, Price, UsageRecord
from usage.selectors import MOST_PERIODS, current_periods
from usage.tables import plain


class Money(serializers.DecimalField):
    """US dollars, or tokens, as a decimal string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_digits": 24, "decimal_places": 12, **kwargs})

    def to_representation(self, value: Any) -> Any:
        return plain(Decimal(value))


class Estimate(Money):
    """A number that is known roughly: six digits of it count."""

    def to_representation(self, value: Any) -> Any:
        return plain(Decimal(f"{value:.6g}"))


class PercentilesOutput(serializers.Serializer[Any]):
    """Milliseconds of the calls that asked a provider; null without one."""

    p50 = serializers.IntegerField(allow_null=True)
    p95 = serializers.IntegerField(allow_null=True)


class SumsOutput(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    failed = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Of the input: those that the provider had cached.")
    reasoning_tokens = serializers.IntegerField(help_text="Of the output.")
    cost = Money(help_text="What the providers ask, in US dollars.")
    charge = Money(help_text="The cost with the tenant's mark-ups.")
    saved = Money(help_text="What the answers from the cache would have cost.")
    unknown = serializers.IntegerField(help_text="Calls whose price is not known; they add nothing to the cost.")
    cache_hits = serializers.IntegerField(source="hits")
    hit_rate = serializers.FloatField(help_text="Answers from the cache, as a share of the calls.")


class TotalsOutput(SumsOutput):
    bucket = serializers.DateTimeField(allow_null=True, help_text="When the hour, day, week or month begins (UTC).")
    dims = serializers.DictField(help_text="The value of each dimension of `group_by`; null for calls without one.")
    names = serializers.DictField(child=serializers.CharField(), help_text="Labels of people and keys in `dims`.")
    first_token_ms = PercentilesOutput()
    total_ms = PercentilesOutput()


class UsageReportOutput(serializers.Serializer[Any]):
    """`total` sums all rows up."""

    object = serializers.ChoiceField(["usage"])
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    group_by = serializers.ListField(child=serializers.CharField())
    bucket = serializers.ChoiceField(["hour", "day", "week", "month"], allow_null=True)
    data = TotalsOutput(many=True)  # type: ignore[assignment]  # a field, not the attribute
    total = SumsOutput()


class InvoiceLineOutput(SumsOutput):
    provider = serializers.CharField(allow_blank=True)
    model = serializers.CharField(allow_blank=True)
    agent = serializers.CharField(allow_blank=True, help_text="Empty: no agent, the model itself.")
    markup = Money(help_text="The charge less the cost.")


class InvoiceTotalOutput(SumsOutput):
    markup = Money()


class InvoiceOutput(serializers.Serializer[Any]):
    object = serializers.ChoiceField(["invoice"])
    month = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    final = serializers.BooleanField(help_text="Is the month over?")
    currency = serializers.ChoiceField(["USD"])
    lines = InvoiceLineOutput(many=True)
    total = InvoiceTotalOutput()


class RecordOutput(serializers.Serializer[UsageRecord]):
    """One call of a provider. `prices` are US dollars for a million tokens, as they were."""

    id = serializers.UUIDField()
    at = serializers.DateTimeField(source="created_at")
    run_id = serializers.UUIDField(allow_null=True)
    session_id = serializers.UUIDField(allow_null=True)
    agent = serializers.CharField(allow_blank=True)
    agent_id = serializers.UUIDField(allow_null=True)
    agent_version = serializers.IntegerField(allow_null=True)
    actor_kind = serializers.CharField()
    actor_id = serializers.UUIDField(allow_null=True)
    actor_label = serializers.CharField()
    end_user = serializers.CharField(allow_blank=True)
    provider = serializers.CharField()
    model = serializers.CharField()
    key = serializers.CharField(source="key_id", allow_blank=True)
    route = serializers.CharField(allow_blank=True)
    variant = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    leg = serializers.IntegerField()
    attempt = serializers.IntegerField()
    cached = serializers.BooleanField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    certainty = serializers.ChoiceField(UsageRecord.Certainty.choices)
    prices = serializers.DictField(allow_null=True)
    cost = Money(allow_null=True)
    charge = Money(allow_null=True)
    saved = Money()
    first_token_ms = serializers.IntegerField(allow_null=True)
    total_ms = serializers.IntegerField()
    finish_reason = serializers.CharField(allow_blank=True)
    error_code = serializers.CharField(allow_blank=True)


class PeriodOutput(serializers.Serializer[BudgetPeriod]):
    """Its context holds the `amount` of the budget."""

    subject = serializers.CharField(allow_blank=True)
    starts_at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField(source="ends_at", allow_null=True, help_text="null: never by itself.")
    spent = Money()
    reserved = Money(help_text="Held for calls that are under way.")
    left = serializers.SerializerMethodField()
    percent = serializers.SerializerMethodField()

    def get_left(self, period: BudgetPeriod) -> str | None:
        """What is neither spent nor held; never less than nothing."""
        return plain(period.left(self.context["amount"]))

    def get_percent(self, period: BudgetPeriod) -> float | None:
        """Spent, of the amount; null for an amount of nothing."""
        return period.percent(self.context["amount"])


class BudgetOutput(serializers.Serializer[Budget]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    scope = serializers.ChoiceField(Budget.Scope.choices)
    subject = serializers.CharField(allow_blank=True)
    unit = serializers.ChoiceField(Budget.Unit.choices)
    period = serializers.ChoiceField(Budget.Period.choices)
    amount = Money()
    hard = serializers.BooleanField()
    notify_at = serializers.ListField(child=serializers.IntegerField())
    notify_emails = serializers.ListField(child=serializers.EmailField())
    is_active = serializers.BooleanField()
    current = serializers.SerializerMethodField(
        help_text=f"The periods under way, at most the {MOST_PERIODS} with most spent."
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    @extend_schema_field(PeriodOutput(many=True))
    def get_current(self, budget: Budget) -> Any:
        context = {"amount": budget.amount}
        return [PeriodOutput(period, context=context).data for period in current_periods(budget)]


class ForecastOutput(serializers.Serializer[Any]):
    """In the budget's unit. `low` to `high` is meant to hold 80 of 100 months."""

    value = Estimate()
    low = Estimate()
    high = Estimate()
    mape = serializers.FloatField(
        allow_null=True, help_text="Mean absolute error in percent of the same forecast in past months."
    )
    months = serializers.IntegerField(help_text="How many past months that is of; at most 6.")


class OutlookOutput(serializers.Serializer[Any]):
    budget = serializers.CharField(source="budget.slug")
    subject = serializers.CharField(allow_blank=True)
    unit = serializers.ChoiceField(Budget.Unit.choices, source="budget.unit")
    month = serializers.DateField(help_text="Its first day.")
    spent = Money(help_text="In the month until now.")
    forecast = ForecastOutput(allow_null=True, help_text="null while fewer than 3 days are known.")
    reached_on = serializers.DateField(
        allow_null=True,
        help_text="The day of this month on which a budget for a month, or for ever, is spent; null: not this month.",
    )


class PriceOutput(serializers.Serializer[Price]):
    """US dollars for a million tokens; null: the list price."""

    id = serializers.UUIDField()
    provider = serializers.CharField(allow_blank=True, help_text="Empty: every provider.")
    model = serializers.CharField()
    input = Money(allow_null=True)
    output = Money(allow_null=True)
    cached = Money(allow_null=True)
    cache_write = Money(allow_null=True)
    markup_percent = Money()
    effective_from = serializers.DateTimeField()
    created_at = serializers.DateTimeField()


class QuoteOutput(serializers.Serializer[Any]):
    """US dollars for a million tokens of each kind; null where nobody knows, or the kind has no price of its own."""

    provider = serializers.CharField()
    model = serializers.CharField()
    source = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        help_text="own, free, unknown, or `list of` a vendor."
    )
    known = serializers.BooleanField(help_text="false: budgets of money refuse the model.")
    markup_percent = Money()
    input = Money(source="unit.input", allow_null=True, default=None)
    output = Money(source="unit.output", allow_null=True, default=None)
    cached = Money(source="unit.cached", allow_null=True, default=None)
    cache_write = Money(source="unit.cache_write", allow_null=True, default=None)
    tiers = serializers.ListField(
        child=serializers.IntegerField(), help_text="Input tokens above which the vendor asks other prices for a call."
    )


class QuoteParameters(StrictSerializer):
    provider = Text(max_length=63)
    model = Text(max_length=255)
