import datetime
from typing import Any

from django.db import models
from django.utils import timezone

from agents.models import AgentVersion
from core.rls import TenantForeignKey
from runs.stream import RunKey
from sessions_app.models import ChatSession
from tenants.models import TenantModel
from toolsets.persons import person_of


def utc_today() -> datetime.date:
    return timezone.now().astimezone(datetime.UTC).date()


class Run(TenantModel):
    """One answer being made, or made: of an agent version in a session, or of a bare model without either.

    `day` is the day (UTC) of its creation, by which its events are partitioned. `request` is what was asked, for
    another attempt and for a replay; `context_seq` is the last message of the session that the model saw.
    """

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
    day = models.DateField(default=utc_today, editable=False)
    attempt = models.PositiveSmallIntegerField(default=1)
    request: Any = models.JSONField(default=dict)
    context_seq = models.PositiveIntegerField(null=True)
    compacted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "run"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="run_list"),
            models.Index(fields=["tenant", "session", "-created_at"], name="run_session"),
            models.Index(fields=["tenant", "status", "-created_at"], name="run_status"),
            models.Index(
                fields=["tenant", "session", "created_at"], condition=models.Q(finished_at=None), name="run_open"
            ),
            models.Index(fields=["finished_at"], condition=models.Q(compacted_at=None), name="run_not_compacted"),
            models.Index(
                fields=["tenant", "agent_version", "created_at"],
                include=["status", "started_at", "finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="run_statistics",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def brings_results(self) -> bool:
        """Was it asked by the results of the client's own tools, and nothing else?"""
        messages = self.request["messages"]
        return bool(messages) and messages[-1]["role"] == "tool"

    @property
    def outlives_caller(self) -> bool:
        """May somebody come back for it? Otherwise it ends with its caller's connection."""
        return self.session_id is not None or bool(self.request.get("idempotency_key"))

    @property
    def person(self) -> str:
        """Whom it is for; empty for nobody."""
        return person_of(actor_kind=self.actor_kind, actor_id=self.actor_id, end_user=self.end_user)

    @property
    def key(self) -> RunKey:
        return RunKey(self.tenant_id, self.id, self.day)

    @property
    def thread_id(self) -> str:
        """The session's; without one the run's own id."""
        return self.session.thread_id if self.session else str(self.id)


FINISHED = (Run.Status.SUCCEEDED, Run.Status.FAILED, Run.Status.CANCELLED, Run.Status.EXPIRED)


class RunEvent(models.Model):
    """One AG-UI event of a run; `seq` starts at 1 and has no holes.

    `at_ms` is its time in milliseconds since 1970, `data` what it says besides that and its type.
    A compacted row stands for several: `data.metadata.merged` says from which `seq` on (runs/services/compact.py).
    The table is partitioned by `day`: name it in every query. Deleting a run deletes its events, by a trigger.
    """

    pk = models.CompositePrimaryKey("run_id", "seq", "day")
    at_ms = models.BigIntegerField()
    day = models.DateField()
    tenant_id = models.UUIDField()
    run_id = models.UUIDField()
    seq = models.PositiveIntegerField()
    fence = models.PositiveIntegerField()
    type = models.CharField(max_length=40)
    data: Any = models.JSONField()

    class Meta:
        db_table = "run_event"
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.type} {self.seq}"

    @property
    def at(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.at_ms / 1000, datetime.UTC)


class RunLease(models.Model):
    """There is one for each run that is not finished: who runs it, and until when that is believed.

    `fence` counts the processes that have had the run; only the holder of the current number may write its events.
    `last_seq` is the last stored event. A run that waits for its turn has no owner; `lease_until` in the past means
    that any process may claim it, the year 1970 that it was given up willingly. Others that follow the run say so by
    `watched_until`: then the owner notifies them.
    """

    run_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    day = models.DateField()
    status = models.CharField(max_length=16, choices=Run.Status)
    owner = models.UUIDField(null=True)
    fence = models.PositiveIntegerField()
    last_seq = models.PositiveIntegerField()
    lease_until = models.DateTimeField()
    watched_until = models.DateTimeField()
    cancel_requested = models.BooleanField(default=False)

    class Meta:
        db_table = "run_lease"

    def __str__(self) -> str:
        return str(self.run_id)


class SocketServer(models.Model):
    """A process that has sockets; it is believed to live until then."""

    id = models.UUIDField(primary_key=True)
    alive_until = models.DateTimeField()

    class Meta:
        db_table = "socket_server"

    def __str__(self) -> str:
        return str(self.id)


class OpenSocket(models.Model):
    """A person, or an API key, who has one or more sockets of a session open at the process `server`.

    `topic` is the session's (`runs.process.topic_of`), also of one that nobody has made yet; `role` theirs in it.
    """

    pk = models.CompositePrimaryKey("tenant_id", "topic", "server", "kind", "person_id")
    tenant_id = models.UUIDField()
    topic = models.UUIDField()
    server = models.UUIDField()
    kind = models.CharField(max_length=16)
    person_id = models.UUIDField()
    label = models.CharField(max_length=200)
    role = models.CharField(max_length=16)
    typing_until = models.DateTimeField(null=True)
    joined_at = models.DateTimeField()

    class Meta:
        db_table = "open_socket"

    def __str__(self) -> str:
        return self.label


class ToolApproval(TenantModel):
    """What a person is asked about one call of a tool, while its run waits; and what was decided, once.

    `key` says which call of the run it is, as in `toolsets.models.ToolCall`, so that another attempt of the run finds
    the answer. `agent` is who calls; `nested`: it was asked by the run's own agent. `role` is the lowest that may
    decide. `edited` are the arguments that the person put in place of `arguments`, both as JSON.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        APPROVED = "approved", "Approved"
        DENIED = "denied", "Denied"
        EXPIRED = "expired", "Expired"
        WITHDRAWN = "withdrawn", "Withdrawn: the run needs no answer any more"

    class Reason(models.TextChoices):
        POLICY = "policy", "The tool or its toolset's policy asks for it"
        UNTRUSTED = "untrusted", "The run has read what comes from outside"
        UNKNOWN = "unknown", "The server stopped during this call: nobody knows whether it was done"

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="approvals")
    key = models.CharField(max_length=64)
    reason = models.CharField(max_length=16, choices=Reason)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    call_id = models.CharField(max_length=255, blank=True)
    agent = models.CharField(max_length=63, blank=True)
    nested = models.BooleanField(default=False)
    toolset = models.CharField(max_length=63)
    tool = models.CharField(max_length=64)
    risk = models.CharField(max_length=16)
    role = models.CharField(max_length=16)
    arguments = models.TextField()
    edited = models.TextField(blank=True)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by_kind = models.CharField(max_length=16, blank=True)
    decided_by_id = models.UUIDField(null=True)
    decided_by_label = models.CharField(max_length=200, blank=True)
    comment = models.CharField(max_length=500, blank=True)

    class Meta:
        db_table = "tool_approval"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "run", "key", "reason"], name="tool_approval_once")]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="tool_approval_list"),
            models.Index(fields=["tenant", "run"], condition=models.Q(status="pending"), name="tool_approval_pending"),
        ]

    def __str__(self) -> str:
        return self.tool


class IdempotencyKey(TenantModel):
    """The run that a client's Idempotency-Key began; kept for IDEMPOTENCY_HOURS."""

    key = models.CharField(max_length=255)
    body_hash = models.BinaryField(max_length=32)
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="idempotency_keys")

    class Meta:
        db_table = "idempotency_key"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key
