from typing import Any

from django.db import models

from agents.models import AgentVersion
from core.rls import TenantForeignKey
from sessions_app.models import ChatSession
from tenants.models import TenantModel


class Run(TenantModel):
    """One answer being made, or made: of an agent version in a session, or of a bare model without either."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        WAITING = "waiting", "Waiting"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    session = TenantForeignKey(ChatSession, on_delete=models.CASCADE, null=True, related_name="runs")
    agent_version = TenantForeignKey(AgentVersion, on_delete=models.SET_NULL, null=True, related_name="runs")
    model = models.CharField(max_length=255)
    status = models.CharField(max_length=16, choices=Status, default=Status.RUNNING)
    source = models.CharField(max_length=16)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.UUIDField(null=True)
    actor_label = models.CharField(max_length=200)
    end_user = models.CharField(max_length=128, blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=32, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    last_seq = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "run"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="run_list"),
            models.Index(fields=["tenant", "session", "-created_at"], name="run_session"),
            models.Index(fields=["tenant", "status", "-created_at"], name="run_status"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


FINISHED = (Run.Status.SUCCEEDED, Run.Status.FAILED, Run.Status.CANCELLED, Run.Status.EXPIRED)


class RunEvent(TenantModel):
    """One AG-UI event of a run; `seq` starts at 1 and has no holes."""

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    type = models.CharField(max_length=40)
    data: Any = models.JSONField()

    class Meta:
        db_table = "run_event"
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["tenant", "run", "seq"], name="run_event_seq")]
