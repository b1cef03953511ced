from typing import Any

from django.db import models

from core.rls import TenantForeignKey
from tenants.models import TenantModel


class Agent(TenantModel):
    """What users call by its slug. Its configuration is its current version; older versions stay as they were."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"

    slug = models.SlugField(max_length=63)
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    version = TenantForeignKey("AgentVersion", on_delete=models.PROTECT, null=True, editable=False, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "agent"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="agent_slug")]
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="agent_list")]

    def __str__(self) -> str:
        return self.slug


class AgentVersion(TenantModel):
    """An immutable configuration of an agent; `number` counts from 1 within it."""

    class WhenBusy(models.TextChoices):
        """What becomes of a message that comes while the session still has a run."""

        QUEUE = "queue", "Queue: it waits for its turn"
        REJECT = "reject", "Reject: it is refused"
        INTERRUPT = "interrupt", "Interrupt: the run under way is cancelled"
        STEER = "steer", "Steer: the running agent hears it at its next step"

    agent = TenantForeignKey(Agent, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=120)
    template = models.CharField(max_length=63)
    template_version = models.CharField(max_length=32)
    model = models.CharField(max_length=255)
    instructions = models.TextField(blank=True)
    config: Any = models.JSONField(default=dict)
    toolsets: Any = models.JSONField(default=list)
    # The database has the default too: servers of the release before write versions while this one is rolled out.
    when_busy = models.CharField(
        max_length=16, choices=WhenBusy, default=WhenBusy.QUEUE, db_default=WhenBusy.QUEUE.value
    )
    max_concurrent_runs = models.PositiveIntegerField(null=True)  # None: only the tenant's limit
    # Seconds for which the same request of this version may be answered from its earlier answers; None: never.
    cache_seconds = models.PositiveIntegerField(null=True)
    join_calls = models.BooleanField(default=False, db_default=False)  # same requests at the same time share an answer
    metadata: Any = models.JSONField(default=dict)
    code = models.CharField(max_length=64, blank=True, default="", db_default="")  # digest of what `VersionCode` holds
    created_by = models.CharField(max_length=200)
    restored_from = models.PositiveIntegerField(null=True)

    class Meta:
        db_table = "agent_version"
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "agent", "number"], name="agent_version_number")]

    def __str__(self) -> str:
        return f"{self.name} v{self.number}"


class VersionCode(TenantModel):
    """What a version of an agent runs, as it was when the version was made; see docs/adr/022-custom-code.md."""

    version = TenantForeignKey(AgentVersion, on_delete=models.CASCADE, related_name="+")
    language = models.CharField(max_length=16)
    source = models.TextField()
    packages = models.CharField(max_length=64, blank=True)  # a digest of sandbox.packages

    class Meta:
        db_table = "agent_version_code"
        constraints = [models.UniqueConstraint(fields=["tenant", "version"], name="agent_version_code_version")]

    def __str__(self) -> str:
        return str(self.version_id)
