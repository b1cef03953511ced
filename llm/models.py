from typing import Any

from django.db import models

from tenants.models import TenantModel


class Provider(TenantModel):
    """A tenant's access to a model provider. Its models are addressed as `slug/model`."""

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
