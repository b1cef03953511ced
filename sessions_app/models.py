from typing import Any

from django.db import models

from agents.models import Agent, AgentVersion
from core.rls import TenantForeignKey
from tenants.models import TenantModel


class ChatSession(TenantModel):
    """A conversation. `external_id` is the client's own name for it; `end_user` is the integrator's user."""

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        CLOSED = "closed", "Closed"

    external_id = models.CharField(max_length=128, null=True, blank=True)
    agent = TenantForeignKey(Agent, on_delete=models.SET_NULL, null=True, related_name="sessions")
    title = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.OPEN)
    end_user = models.CharField(max_length=128, blank=True)
    metadata: Any = models.JSONField(default=dict, blank=True)
    created_by = models.CharField(max_length=200)
    last_seq = models.PositiveIntegerField(default=0)
    last_message_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "chat_session"
        verbose_name = "session"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "external_id"], name="chat_session_external_id")]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="chat_session_list"),
            models.Index(fields=["tenant", "end_user", "-created_at"], name="chat_session_end_user"),
        ]

    def __str__(self) -> str:
        return self.title or self.thread_id

    @property
    def thread_id(self) -> str:
        """AG-UI's name of the conversation: the client's own id, else ours."""
        return self.external_id or str(self.id)


class Message(TenantModel):
    """One message in OpenAI's shape; `seq` counts from 1 within its session. `run_id` names the run that made it."""

    class Role(models.TextChoices):
        SYSTEM = "system", "System"
        DEVELOPER = "developer", "Developer"
        USER = "user", "User"
        ASSISTANT = "assistant", "Assistant"
        TOOL = "tool", "Tool"

    class Status(models.TextChoices):
        COMPLETE = "complete", "Complete"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"

    session = TenantForeignKey(ChatSession, on_delete=models.CASCADE, related_name="messages")
    seq = models.PositiveIntegerField()
    role = models.CharField(max_length=16, choices=Role)
    content: Any = models.JSONField(null=True)
    tool_calls: Any = models.JSONField(null=True)
    tool_call_id = models.CharField(max_length=200, blank=True)
    name = models.CharField(max_length=128, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.COMPLETE)
    run_id = models.UUIDField(null=True)
    agent_version = TenantForeignKey(AgentVersion, on_delete=models.SET_NULL, null=True, related_name="+")
    end_user = models.CharField(max_length=128, blank=True)

    class Meta:
        db_table = "message"
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["tenant", "session", "seq"], name="message_seq")]

    def __str__(self) -> str:
        return f"{self.role} {self.seq}"
