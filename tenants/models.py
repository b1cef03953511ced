from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models

from core.ids import uuid7
from core.rls import TenantForeignKey

SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"


class Role(models.TextChoices):
    """From the highest to the lowest; `tenants.permissions` says what each may do."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    OPERATOR = "operator", "Operator"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class User(AbstractUser):
    """A person who signs in; a platform row. What a person may do is said by memberships alone."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)


class Tenant(models.Model):
    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    max_concurrent_runs = models.PositiveIntegerField(null=True)  # None: the setting TENANT_CONCURRENT_RUNS
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "tenant"
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class TenantModel(models.Model):
    """A tenant's row. Its migration lists it in `EnableRLS`; references between such rows are TenantForeignKeys."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", editable=False, db_index=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Membership(TenantModel):
    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "membership"
        ordering = ["created_at", "id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(TenantModel):
    """`ask_<prefix>_<secret>`; only the SHA-256 of the secret is stored."""

    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.BinaryField(max_length=32, editable=False)
    role = models.CharField(max_length=16, choices=Role)
    scopes: Any = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.CharField(max_length=200, editable=False)
    rotated_from = TenantForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        db_table = "api_key"
        verbose_name = "API key"
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="api_key_list")]

    def __str__(self) -> str:
        return self.name


class SocketTicket(TenantModel):
    """A one-use credential for a browser socket: a row that is deleted when it is used."""

    secret_hash = models.BinaryField(max_length=32)
    principal: Any = models.JSONField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "socket_ticket"
        constraints = [models.UniqueConstraint(fields=["tenant", "secret_hash"], name="socket_ticket_once")]

    def __str__(self) -> str:
        return str(self.id)


class PublishableKey(TenantModel):
    """`pk_…`, which a widget shows to everybody: visitors of the pages at `origins` may talk with the one `agent`.

    `agent` is its slug. `visitors_per_minute` bounds new visitors of the key from one address, `messages_per_minute`
    what one visitor says.
    """

    name = models.CharField(max_length=120)
    token = models.CharField(max_length=64, unique=True, editable=False)
    agent = models.CharField(max_length=63)
    origins: Any = models.JSONField(default=list)
    visitors_per_minute = models.PositiveIntegerField(default=30)
    messages_per_minute = models.PositiveIntegerField(default=20)
    created_by = models.CharField(max_length=200, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "publishable_key"
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="publishable_key_list")]

    def __str__(self) -> str:
        return self.name


class Guest(TenantModel):
    """A person without an account: a visitor of a widget, or somebody who came by an invitation to one session.

    A guest sees the sessions that they take part in, and nothing else. `secret_hash` is of the secret that the
    browser keeps and gets short-lived tokens by. `key` is the widget's; without one the guest begins no sessions.
    """

    label = models.CharField(max_length=200)
    secret_hash = models.BinaryField(max_length=32)
    key = TenantForeignKey(PublishableKey, on_delete=models.CASCADE, null=True, related_name="guests")
    address = models.GenericIPAddressField(null=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "guest"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "secret_hash"], name="guest_once")]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="guest_list"),
            models.Index(fields=["tenant", "key", "address", "created_at"], name="guest_rate"),
        ]

    def __str__(self) -> str:
        return self.label
