from typing import Any

from django.db import models

from agents.models import Agent, AgentVersion
from core.rls import TenantForeignKey
from tenants.models import TenantModel


class ChatSession(TenantModel):
    """A conversation. `external_id` is the client's own name for it; `end_user` is the integrator's user.

    A fork has its first messages from the session `forked_from`, up to there with the seq `forked_seq`. `my_role` is
    that of who reads it, where a selector has looked.
    """

    my_role: str = ""

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        CLOSED = "closed", "Closed"
        ARCHIVED = "archived", "Archived"

    class TitledBy(models.TextChoices):
        START = "", "The first words"
        MODEL = "model", "A model"
        PERSON = "person", "A person"

    external_id = models.CharField(max_length=128, null=True, blank=True)
    agent = TenantForeignKey(Agent, on_delete=models.SET_NULL, null=True, related_name="sessions")
    title = models.CharField(max_length=200, blank=True)
    titled_by = models.CharField(max_length=16, choices=TitledBy, default="", db_default="", blank=True)
    forked_from = models.UUIDField(null=True)
    forked_seq = models.PositiveIntegerField(null=True)
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
    """One message in OpenAI's shape; `seq` counts from 1 within its session. `run_id` names the run that made it.

    The author of a user's message is the person or API key that sent it; `client_id` is the id by which AG-UI events
    name it, which for a user's is their client's own; without one it goes by ours. `replaced_by` is the run that was
    asked to answer anew: what it replaced is no longer part of the conversation.
    """

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
    author_kind = models.CharField(max_length=16, blank=True, default="", db_default="")
    author_id = models.UUIDField(null=True)
    author = models.CharField(max_length=200, blank=True, default="", db_default="")
    client_id = models.CharField(max_length=128, blank=True, default="", db_default="")
    replaced_by = models.UUIDField(null=True)

    class Meta:
        db_table = "message"
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["tenant", "session", "seq"], name="message_seq")]

    def __str__(self) -> str:
        return f"{self.role} {self.seq}"


class PersonModel(TenantModel):
    """What belongs to one person: a user (`person_kind` "user") or a guest. `label` is their name as it was then."""

    person_kind = models.CharField(max_length=16)
    person_id = models.UUIDField()
    label = models.CharField(max_length=200)

    class Meta:
        abstract = True


class Invitation(TenantModel):
    """A link into a session: who has it may take part in the `role`, until it expires or was used `max_uses` times."""

    class Role(models.TextChoices):
        MEMBER = "member", "Member"
        VIEWER = "viewer", "Viewer"

    class Audience(models.TextChoices):
        MEMBERS = "members", "Members of this tenant"
        ANYONE = "anyone", "Anyone who has the link"

    session = TenantForeignKey(ChatSession, on_delete=models.CASCADE, related_name="invitations")
    secret_hash = models.BinaryField(max_length=32)
    role = models.CharField(max_length=16, choices=Role)
    audience = models.CharField(max_length=16, choices=Audience)
    expires_at = models.DateTimeField()
    max_uses = models.PositiveIntegerField(null=True)
    uses = models.PositiveIntegerField(default=0)
    revoked_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        db_table = "session_invitation"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "secret_hash"], name="session_invitation_once")]
        indexes = [models.Index(fields=["tenant", "session", "-created_at"], name="session_invitation_list")]

    def __str__(self) -> str:
        return str(self.id)


class Participant(PersonModel):
    """A person who takes part in a session. Nobody can do more in it than their `role` here and in the tenant allow."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"
        VIEWER = "viewer", "Viewer"

    session = TenantForeignKey(ChatSession, on_delete=models.CASCADE, related_name="participants")
    role = models.CharField(max_length=16, choices=Role)
    invitation = TenantForeignKey(Invitation, on_delete=models.SET_NULL, null=True, related_name="participants")

    class Meta:
        db_table = "session_participant"
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "session", "person_kind", "person_id"], name="session_participant_once"
            )
        ]
        indexes = [models.Index(fields=["tenant", "person_id", "session"], name="session_participant_person")]

    def __str__(self) -> str:
        return self.label


class MessageFeedback(PersonModel):
    """What one person thinks of one answer."""

    class Rating(models.TextChoices):
        UP = "up", "Good"
        DOWN = "down", "Bad"

    message = TenantForeignKey(Message, on_delete=models.CASCADE, related_name="feedback")
    rating = models.CharField(max_length=8, choices=Rating)
    comment = models.CharField(max_length=2000, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "message_feedback"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "message", "person_kind", "person_id"], name="message_feedback_once"
            )
        ]
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="message_feedback_list")]

    def __str__(self) -> str:
        return f"{self.rating} by {self.label}"
