from collections.abc import Sequence
from typing import Any

from django.db import models
from django.utils import timezone

from core.rls import TenantForeignKey
from tenants.models import TenantModel


class Provider(TenantModel):
    """A tenant's access to a model provider, with its main key. Its models are addressed as `slug/model`.

    `model_names` was where its models were kept before ProviderModel; servers of that release still read it.
    """

    # The names of its models, and whether a test has listed any; `with_models` (llm.selectors) reads them with the row.
    enabled_models: Sequence[str]
    disabled_models: Sequence[str]
    models_listed: bool

    class Health(models.TextChoices):
        UNKNOWN = "unknown", "Not tested"
        HEALTHY = "healthy", "Healthy"
        FAILING = "failing", "Failing"

    slug = models.SlugField(max_length=63)
    kind = models.CharField(max_length=32)
    base_url = models.CharField(max_length=500, blank=True)
    secret = models.BinaryField(null=True, editable=False)
    secret_last4 = models.CharField(max_length=4, blank=True, editable=False)
    settings: Any = models.JSONField(default=dict, blank=True)
    model_names: Any = models.JSONField(default=list, blank=True)
    health = models.CharField(max_length=16, choices=Health, default=Health.UNKNOWN, editable=False)
    health_message = models.CharField(max_length=300, blank=True, editable=False)
    health_checked_at = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "provider"
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="provider_slug")]

    def __str__(self) -> str:
        return self.slug


class EndpointHealth(TenantModel):
    """What the breakers found of a model of a provider, asked with one of its keys; written on their transitions."""

    class State(models.TextChoices):
        CLOSED = "closed", "Working"
        OPEN = "open", "Left alone"
        HALF_OPEN = "half_open", "Being tried"

    provider = models.CharField(max_length=63)  # its slug
    model = models.CharField(max_length=200)
    key = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=16, choices=State)
    failures = models.PositiveIntegerField()
    opened_at = models.DateTimeField()
    until = models.DateTimeField()
    last_error_code = models.CharField(max_length=64, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "endpoint_health"
        ordering = ["provider", "model", "key"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "provider", "model", "key"], name="endpoint_health_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

    @property
    def state_now(self) -> str:
        """An open endpoint whose time is over is tried by the next call."""
        over = self.state == self.State.OPEN and self.until <= timezone.now()
        return self.State.HALF_OPEN if over else self.state


class AnswerCache(TenantModel):
    """A finished answer, found by what was asked. `answer` is its deltas, merged to a handful, as MessagePack."""

    key = models.BinaryField(max_length=32)  # SHA-256 of the request, see llm.door.cache
    answer = models.BinaryField()
    size = models.PositiveIntegerField()  # bytes
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField()

    class Meta:
        db_table = "answer_cache"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="answer_cache_once")]
        indexes = [models.Index(fields=["tenant", "used_at"], name="answer_cache_used")]

    def __str__(self) -> str:
        return str(self.id)


class ProviderModel(TenantModel):
    """A model of a provider: entered by a person, or found by the provider's test.

    `overrides` are what the tenant says of it, by the fields of `llm.catalog.matrix.Capabilities`.
    """

    provider = TenantForeignKey(Provider, on_delete=models.CASCADE, related_name="models", editable=False)
    name = models.CharField(max_length=255)
    entered = models.BooleanField(default=False, editable=False)
    enabled = models.BooleanField(default=True)
    overrides: Any = models.JSONField(default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "provider_model"
        verbose_name = "model"
        ordering = ["provider__slug", "name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "provider", "name"], name="provider_model_name")]

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.name}"


class ProviderKey(TenantModel):
    """One more key of a provider, between which and the main one calls are balanced by what their limits have left.

    The limits: requests and tokens a minute, calls at once; None knows none.
    """

    provider = TenantForeignKey(Provider, on_delete=models.CASCADE, related_name="keys")
    label = models.CharField(max_length=63)
    secret = models.BinaryField(editable=False)
    secret_last4 = models.CharField(max_length=4, blank=True, editable=False)
    rpm = models.PositiveIntegerField(null=True)
    tpm = models.PositiveBigIntegerField(null=True)
    concurrent = models.PositiveIntegerField(null=True)
    enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "provider_key"
        ordering = ["label"]
        constraints = [models.UniqueConstraint(fields=["tenant", "provider", "label"], name="provider_key_label")]

    def __str__(self) -> str:
        return self.label


class Route(TenantModel):
    """A model name, `route/slug`, that chooses among its targets for each request.

    `continues`: when a target fails after its first token, the next one goes on from what was said.
    """

    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120, blank=True)
    strategy = models.CharField(max_length=32)
    settings: Any = models.JSONField(default=dict, blank=True)
    continues = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "route"
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="route_slug")]

    def __str__(self) -> str:
        return self.slug


class RouteTarget(TenantModel):
    """A model that a route may choose. Which of weight, rule and variant count is said by the route's strategy."""

    route = TenantForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    position = models.PositiveSmallIntegerField()
    provider = TenantForeignKey(Provider, on_delete=models.DO_NOTHING, related_name="+")  # the database refuses
    model = models.CharField(max_length=255)
    weight = models.PositiveIntegerField(default=1)
    rule = models.CharField(max_length=500, blank=True)
    variant = models.CharField(max_length=63, blank=True)
    enabled = models.BooleanField(default=True)

    class Meta:
        db_table = "route_target"
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "route", "position"], name="route_target_position"),
        ]
        indexes = [models.Index(fields=["tenant", "provider"], name="route_target_provider")]

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.model}"
