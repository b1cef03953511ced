from decimal import Decimal
from typing import Any

from django.db import models
from django.utils import timezone

from core.rls import TenantForeignKey
from tenants.models import TenantModel


def money(**options: Any) -> Any:
    """A column for US dollars, or tokens; a token of the cheapest models costs about 1e-8 dollars."""
    return models.DecimalField(max_digits=24, decimal_places=12, **options)


def rate(**options: Any) -> Any:
    """A column for US dollars for a million tokens."""
    return models.DecimalField(max_digits=14, decimal_places=6, **options)


class UsageRecord(TenantModel):
    """One call of a model provider, whether it succeeded or not; append-only, and kept when its run is deleted.

    `created_at` is when the call began. `cost` is what the provider asks for it, `charge` that times the tenant's
    mark-up, both in US dollars; None when the price is not known. A `cached` answer asked no provider: it cost nothing,
    and `saved` is what it would have cost. `fence` and `number` say which call of which attempt of the run it was.
    """

    JOINED = "joined"  # so begins the reason of who shared the answer to an identical call under way

    class Certainty(models.TextChoices):
        EXACT = "exact", "Exact"  # the provider counted
        ESTIMATED = "estimated", "Estimated"  # we counted
        UNKNOWN = "unknown", "Unknown"  # nobody did, or the price is not known

    created_at = models.DateTimeField()
    run_id = models.UUIDField(null=True)
    fence = models.PositiveIntegerField(default=0)
    number = models.PositiveIntegerField(default=0)
    session_id = models.UUIDField(null=True)
    agent = models.CharField(max_length=63, blank=True)
    agent_id = models.UUIDField(null=True)
    agent_version = models.PositiveIntegerField(null=True)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.UUIDField(null=True)
    actor_label = models.CharField(max_length=200)
    end_user = models.CharField(max_length=128, blank=True)
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=255)
    key_id = models.CharField(max_length=36, blank=True)
    route = models.CharField(max_length=63, blank=True)
    variant = models.CharField(max_length=63, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    leg = models.PositiveSmallIntegerField(default=0)
    attempt = models.PositiveSmallIntegerField(default=1)
    cached = models.BooleanField(default=False)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    cache_write_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    certainty = models.CharField(max_length=16, choices=Certainty)
    prices: Any = models.JSONField(null=True)  # the unit prices, as `usage.prices.Quote.snapshot` gives them
    cost = money(null=True)
    charge = money(null=True)
    saved = money(default=Decimal(0))
    first_token_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=32, blank=True)
    error_code = models.CharField(max_length=64, blank=True)

    class Meta:
        db_table = "usage_record"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="usage_list"),
            models.Index(fields=["tenant", "run_id"], name="usage_run"),
            models.Index(fields=["tenant", "session_id"], name="usage_session"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class UsageDay(TenantModel):
    """The sums of one day's (UTC) records of the same dimensions, so that a month is not added up from single calls.

    They count while the `calls` of a day are as many as its records, which are only ever added; otherwise the records
    are read. `first_token_ms` and `total_ms` hold each value of the calls that asked a provider, as 32-bit integers.
    """

    day = models.DateField()
    agent = models.CharField(max_length=63, blank=True)
    agent_id = models.UUIDField(null=True)
    agent_version = models.PositiveIntegerField(null=True)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.UUIDField(null=True)
    actor_label = models.CharField(max_length=200)
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=255)
    key_id = models.CharField(max_length=36, blank=True)
    route = models.CharField(max_length=63, blank=True)
    variant = models.CharField(max_length=63, blank=True)
    certainty = models.CharField(max_length=16, choices=UsageRecord.Certainty)
    error_code = models.CharField(max_length=64, blank=True)
    cached = models.BooleanField()
    calls = models.BigIntegerField()
    hits = models.BigIntegerField(db_default=0)
    unknown = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost = money()
    charge = money()
    saved = money()
    first_token_ms = models.BinaryField()
    total_ms = models.BinaryField()

    class Meta:
        db_table = "usage_day"
        indexes = [models.Index(fields=["tenant", "day"], name="usage_day_list")]

    def __str__(self) -> str:
        return f"{self.day} {self.provider}/{self.model}"


class Price(TenantModel):
    """What a tenant says that a model costs from a time on, and what is added for its own customers.

    `provider` is a provider's slug, "" for every provider; `model` a model's name, "*" for every model, or a beginning
    of names followed by "*". The closest one in force counts. Without `input` and `output` the list price is meant.
    """

    provider = models.CharField(max_length=63, blank=True)
    model = models.CharField(max_length=255)
    input = rate(null=True)
    output = rate(null=True)
    cached = rate(null=True)
    cache_write = rate(null=True)
    markup_percent = models.DecimalField(max_digits=8, decimal_places=3, default=Decimal(0))
    effective_from = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "price"
        ordering = ["provider", "model", "-effective_from"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "provider", "model", "effective_from"], name="price_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider or '*'}/{self.model}"


class Budget(TenantModel):
    """How much may be spent in a period, by whom.

    `scope` says of whom; `subject` of which one: "" means each one of them for itself. A `hard` budget refuses what
    would pass it; any budget tells `notify_emails` when a share of `notify_at` (percent) is reached.
    """

    class Scope(models.TextChoices):
        TENANT = "tenant", "Tenant"
        USER = "user", "Member"
        API_KEY = "api_key", "API key"
        END_USER = "end_user", "End user"
        AGENT = "agent", "Agent"
        SESSION = "session", "Session"
        RUN = "run", "Run"

    class Unit(models.TextChoices):
        USD = "usd", "US dollars"
        TOKENS = "tokens", "Tokens"

    class Period(models.TextChoices):
        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        TOTAL = "total", "For ever"

    slug = models.SlugField(max_length=63)
    scope = models.CharField(max_length=16, choices=Scope)
    subject = models.CharField(max_length=200, blank=True)
    unit = models.CharField(max_length=16, choices=Unit, default=Unit.USD)
    period = models.CharField(max_length=16, choices=Period, default=Period.MONTH)
    amount = money()
    hard = models.BooleanField(default=True)
    notify_at: Any = models.JSONField(default=list, blank=True)
    notify_emails: Any = models.JSONField(default=list, blank=True)
    is_active = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "budget"
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="budget_slug")]

    def __str__(self) -> str:
        return self.slug

    @property
    def sole_subject(self) -> bool:
        """Is there one period at a time? Otherwise each subject has its own."""
        return self.scope == self.Scope.TENANT or bool(self.subject)


class BudgetPeriod(TenantModel):
    """What of a budget is spent, and held for calls under way, in one period by one subject.

    `notified_at` is the highest share that was told.
    """

    budget = TenantForeignKey(Budget, on_delete=models.CASCADE, related_name="periods")
    subject = models.CharField(max_length=200, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    spent = money(default=Decimal(0))
    reserved = money(default=Decimal(0))
    notified_at = models.PositiveSmallIntegerField(default=0)

    class Meta:
        db_table = "budget_period"
        ordering = ["-starts_at", "subject"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "budget", "subject", "starts_at"], name="budget_period_once"),
            models.CheckConstraint(condition=models.Q(reserved__gte=0), name="budget_period_reserved"),
        ]

    def __str__(self) -> str:
        return f"{self.budget_id} {self.starts_at:%Y-%m-%d} {self.subject}"

    def left(self, amount: Decimal) -> Decimal:
        """What of the budget's amount is neither spent nor held; never less than nothing."""
        left: Decimal = amount - self.spent - self.reserved
        return max(left, Decimal(0))

    def percent(self, amount: Decimal) -> float | None:
        """What is spent of the budget's amount; None for an amount of nothing."""
        return round(float(100 * self.spent / amount), 2) if amount else None


class BudgetHold(TenantModel):
    """What a call under way holds of a period; gone once the call is settled, or its run is known to be lost."""

    period = TenantForeignKey(BudgetPeriod, on_delete=models.CASCADE, related_name="holds")
    run_id = models.UUIDField()
    call_id = models.UUIDField()
    amount = money()

    class Meta:
        db_table = "budget_hold"
        constraints = [models.UniqueConstraint(fields=["tenant", "call_id", "period"], name="budget_hold_once")]
        indexes = [models.Index(fields=["tenant", "run_id"], name="budget_hold_run")]

    def __str__(self) -> str:
        return f"{self.amount} for {self.call_id}"
