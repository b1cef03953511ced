from typing import Any

from django.db import models

from tenants.models import TenantModel


class Toolset(TenantModel):
    """A tenant's configuration of a toolset kind; agents are granted it by slug."""

    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=32)
    config: Any = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "toolset"
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="toolset_slug")]

    def __str__(self) -> str:
        return self.name
