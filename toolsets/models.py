from typing import Any

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from core.rls import TenantForeignKey
from tenants.models import Membership, TenantModel


class Toolset(TenantModel):
    """A tenant's configuration of a toolset kind; agents are granted it by slug.

    `learned` is what a LearningKind's server told of its tools when it was asked at `learned_at`. It may be megabytes:
    lists leave it out. `learn_error` is why it could not be asked last, `learn_failures` how often since it could, and
    `learn_due` when it is asked again; None for a toolset that has nobody to ask.
    """

    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=32)
    config: Any = models.JSONField(default=dict, blank=True)
    policy: Any = models.JSONField(default=dict, db_default={}, blank=True)
    secrets = models.BinaryField(null=True, editable=False)
    secret_names: Any = models.JSONField(default=list, db_default=[], editable=False)
    enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)  # with what was learned as well, where it changed
    learned: Any = models.JSONField(null=True, editable=False)
    learned_at = models.DateTimeField(null=True, editable=False)
    learn_error = models.CharField(max_length=1000, default="", db_default="", blank=True, editable=False)
    learn_failures = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    learn_due = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "toolset"
        ordering = ["slug"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="toolset_slug")]
        indexes = [
            models.Index(fields=["learn_due"], condition=models.Q(learn_due__isnull=False), name="toolset_learn_due")
        ]

    def __str__(self) -> str:
        return self.name


class ToolsetCredential(TenantModel):
    """What one person signs in with where a toolset acts for that person (toolsets/persons.py); a member's go with the
    membership.
    """

    toolset = TenantForeignKey(Toolset, on_delete=models.CASCADE, related_name="credentials")
    person = models.CharField(max_length=160)
    member = TenantForeignKey(Membership, on_delete=models.CASCADE, null=True, related_name="+")
    secrets = models.BinaryField(null=True, editable=False)
    secret_names: Any = models.JSONField(default=list, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "toolset_credential"
        ordering = ["-updated_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "toolset", "person"], name="toolset_credential_once")]

    def __str__(self) -> str:
        return self.person


class ToolCall(TenantModel):
    """One call of a tool, of a run or of a person who tries it. It goes with its run; its toolset may go before.

    What changes something or reaches outside has its row before it begins: one that is `started` and whose process is
    gone may have been done or not. In a run `key` says which call it is (the model's id of it, the tool, the arguments,
    and which of those that are alike), so that another attempt of the run does not do it again. `created_at` is when it
    began, `size` the bytes of its whole result.
    """

    class Status(models.TextChoices):
        STARTED = "started", "Started"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"

    created_at = models.DateTimeField()
    run_id = models.UUIDField(null=True)
    session_id = models.UUIDField(null=True)
    fence = models.PositiveIntegerField(default=0)
    key = models.CharField(max_length=64)
    call_id = models.CharField(max_length=255, blank=True)
    toolset = models.CharField(max_length=63, blank=True)
    tool = models.CharField(max_length=64)
    risk = models.CharField(max_length=16)
    status = models.CharField(max_length=16, choices=Status)
    arguments = models.TextField(blank=True)
    result = models.TextField(blank=True)
    size = models.PositiveIntegerField(default=0)
    ms = models.PositiveIntegerField(null=True)
    actor_kind = models.CharField(max_length=16, blank=True)
    actor_id = models.UUIDField(null=True)
    actor_label = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "tool_call"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "run_id", "key"], name="tool_call_once")]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="tool_call_list"),
            BrinIndex(fields=["created_at"], name="tool_call_age"),  # for the job that removes the old ones
        ]

    def __str__(self) -> str:
        return self.tool
