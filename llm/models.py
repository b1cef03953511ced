from collections.abc import Sequence
from typing import Any

from django.db import models

from core.rls import TenantForeignKey
from tenants.models import TenantModel


class Provider(TenantModel):
    """A tenant's access to a model provider. Its models are addressed as `slug/model`.

    `model_names` was where its models were kept before ProviderModel; servers of that release still read it.
    """

    # The names of its models, and whether a test has listed any; `llm.selectors.with_models` reads them with the row.
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
