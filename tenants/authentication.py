"""From credentials to a Principal: API keys, signed-in browsers, guests and socket tickets."""

import hashlib
import hmac
import json
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.db import connection
from django.utils import timezone

from core.errors import ApplicationError, NotAuthenticated, NotPermitted
from core.tenant import tenant_context
from tenants.models import ApiKey, Membership, Tenant
from tenants.principal import Principal, Widget

LAST_USED_EVERY = timedelta(minutes=1)
_CACHE_SIZE = 10_000


def secret_digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    id: UUID
    tenant_id: UUID
    tenant_slug: str
    tenant_status: str
    name: str
    secret_hash: bytes
    role: str
    scopes: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None


_cache: dict[str, tuple[float, KeyRecord]] = {}
_touched: dict[UUID, float] = {}


def authenticate_api_key(token: str) -> Principal:
    """The principal of `ask_<prefix>_<secret>`. Raises NotAuthenticated, or NotPermitted for a suspended tenant.

    A key is looked up once per API_KEY_CACHE_SECONDS; the answer is the same for a wrong prefix and a wrong secret.
    """
    prefix, secret = _split(token)
    record = _cached(prefix) or _look_up(prefix)
    stored = record.secret_hash if record else bytes(32)
    if not hmac.compare_digest(stored, secret_digest(secret)) or record is None:
        raise NotAuthenticated("The API key is wrong.", code="invalid_api_key")
    _refuse_unusable(record)
    _touch(record)
    return Principal(
        record.tenant_id, record.tenant_slug, "api_key", record.id, record.name, record.role, frozenset(record.scopes)
    )


def cached_api_key(token: str) -> Principal | None:
    """`authenticate_api_key` without the database, for callers that must not block; None when it has to look."""
    record = _cached(_split(token)[0])
    if record is None or _due(record):
        return None
    return authenticate_api_key(token)


def forget_api_key(prefix: str) -> None:
    """Drop this process's copy after a change; other processes follow within API_KEY_CACHE_SECONDS."""
    _cache.pop(prefix, None)


def _split(token: str) -> tuple[str, str]:
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != "ask" or not parts[1].isalnum() or not parts[1].isascii():
        raise NotAuthenticated("The API key is not of the form ask_<prefix>_<secret>.", code="invalid_api_key")
    return parts[1], parts[2]


def _cached(prefix: str) -> KeyRecord | None:
    until, record = _cache.get(prefix, (0.0, None))
    return record if until > time.monotonic() else None


def _look_up(prefix: str) -> KeyRecord | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM api_key_lookup(%s)", [prefix[:16]])
        row = cursor.fetchone()
    if row is None:
        return None
    id_, tenant_id, slug, status, name, secret_hash, role, scopes, expires_at, revoked_at = row
    record = KeyRecord(
        id_, tenant_id, slug, status, name, bytes(secret_hash), role, list(scopes or []), expires_at, revoked_at
    )
    if len(_cache) >= _CACHE_SIZE:
        _cache.clear()
    _cache[prefix] = (time.monotonic() + settings.API_KEY_CACHE_SECONDS, record)
    return record


def _refuse_unusable(record: KeyRecord) -> None:
    if record.revoked_at is not None:
        raise NotAuthenticated("The API key was revoked.", code="api_key_revoked")
    if record.expires_at is not None and record.expires_at <= timezone.now():
        raise NotAuthenticated("The API key has expired.", code="api_key_expired")
    if record.tenant_status != Tenant.Status.ACTIVE:
        raise NotPermitted("This tenant is suspended.", code="tenant_suspended")


def _due(record: KeyRecord) -> bool:
    return time.monotonic() - _touched.get(record.id, -1e9) > LAST_USED_EVERY.total_seconds()


def _touch(record: KeyRecord) -> None:
    """Note the use, at most once a minute and process: an approximate figure for people, not an audit row."""
    if not _due(record):
        return
    if len(_touched) >= _CACHE_SIZE:
        _touched.clear()
    _touched[record.id] = time.monotonic()
    with tenant_context(record.tenant_id):
        ApiKey.objects.filter(tenant_id=record.tenant_id, id=record.id).update(last_used_at=timezone.now())


GUEST = "asg_"
guest_signer = TimestampSigner(salt="guest", sep=".")


@dataclass(frozen=True, slots=True)
class GuestRecord:
    id: UUID
    tenant_id: UUID
    tenant_slug: str
    tenant_status: str
    label: str
    expires_at: datetime
    is_revoked: bool
    key_id: UUID | None
    agent: str | None
    origins: list[str]


_guests: dict[UUID, tuple[float, GuestRecord]] = {}


def authenticate_guest(token: str) -> Principal:
    """The principal of `asg_<guest>.<time>.<signature>`.

    Raises NotAuthenticated, in the same words whatever is wrong with it, or NotPermitted for a suspended tenant.
    A guest is looked up once per API_KEY_CACHE_SECONDS.
    """
    guest_id = _guest_id(token)
    return _guest_principal(_cached_guest(guest_id) or _guest_look_up(guest_id))


def _guest_principal(record: GuestRecord | None) -> Principal:
    if record is None or record.is_revoked or record.expires_at <= timezone.now():
        raise invalid_guest()
    if record.tenant_status != Tenant.Status.ACTIVE:
        raise NotPermitted("This tenant is suspended.", code="tenant_suspended")
    widget = Widget(record.agent, frozenset(record.origins)) if record.agent is not None else None
    return Principal(record.tenant_id, record.tenant_slug, "guest", record.id, record.label, "member", widget=widget)


def invalid_guest() -> NotAuthenticated:
    return NotAuthenticated("The guest's credential is wrong or has ended.", code="invalid_guest")


def _guest_id(token: str) -> UUID:
    try:
        return UUID(guest_signer.unsign(token.removeprefix(GUEST), max_age=settings.GUEST_TOKEN_SECONDS))
    except (BadSignature, ValueError):
        raise invalid_guest() from None


def _cached_guest(guest_id: UUID) -> GuestRecord | None:
    until, record = _guests.get(guest_id, (0.0, None))
    return record if until > time.monotonic() else None


def _guest_look_up(guest_id: UUID) -> GuestRecord | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM guest_lookup(%s)", [guest_id])
        row = cursor.fetchone()
    if row is None:
        return None
    if len(_guests) >= _CACHE_SIZE:
        _guests.clear()
    record = GuestRecord(*row)
    _guests[guest_id] = (time.monotonic() + settings.API_KEY_CACHE_SECONDS, record)
    return record


def forget_guests() -> None:
    """Drop this process's copies after a change; other processes follow within API_KEY_CACHE_SECONDS."""
    _guests.clear()


def authenticate_token(token: str) -> Principal:
    """The principal of an Authorization header: an API key, or a guest's token."""
    return authenticate_guest(token) if token.startswith(GUEST) else authenticate_api_key(token)


def cached_token(token: str) -> Principal | None:
    """`authenticate_token` without the database, for callers that must not block; None when it has to look."""
    if not token.startswith(GUEST):
        return cached_api_key(token)
    record = _cached_guest(_guest_id(token))
    return _guest_principal(record) if record is not None else None


def at_origin(principal: Principal, origin: str) -> Principal:
    """The principal as it asks from a page of this origin. Raises NotPermitted where its widget is not for that."""
    widget = principal.widget
    if widget is None:
        return principal
    if origin not in widget.origins:
        raise other_origin()
    return replace(principal, widget=replace(widget, origins=frozenset([origin])))


def other_origin() -> NotPermitted:
    message = "Pages of this origin may not use this widget; the origins of its publishable key are those that may."
    return NotPermitted(message, code="origin")


@dataclass(frozen=True, slots=True)
class UserMembership:
    tenant_id: UUID
    tenant_slug: str
    tenant_name: str
    tenant_status: str
    role: str
    status: str

    @property
    def is_open(self) -> bool:
        """Neither the tenant nor the person in it is suspended."""
        return self.tenant_status == Tenant.Status.ACTIVE and self.status == Membership.Status.ACTIVE


def memberships_of(user: Any) -> list[UserMembership]:
    """Every membership of a signed-in user, before a tenant is known."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM user_memberships(%s)", [user.pk])
        return [UserMembership(*row) for row in cursor.fetchall()]


def authenticate_user(user: Any, tenant_slug: str) -> Principal:
    """The principal of a signed-in user in a tenant.

    Raises NotAuthenticated for nobody and NotPermitted where the user is no member or somebody is suspended; a tenant
    that does not exist answers as one that the user is no member of.
    """
    if not user.is_authenticated or not user.is_active:
        raise NotAuthenticated("Sign in first, or send an API key.")
    return principal_among(memberships_of(user), user, tenant_slug)


def principal_among(memberships: list[UserMembership], user: Any, tenant_slug: str) -> Principal:
    """`authenticate_user` for a caller that has the user's memberships at hand."""
    found = next((m for m in memberships if m.tenant_slug == tenant_slug), None)
    if found is None:
        raise NotPermitted("You are no member of this tenant.", code="not_a_member")
    if found.tenant_status != Tenant.Status.ACTIVE:
        raise NotPermitted("This tenant is suspended.", code="tenant_suspended")
    if found.status != Membership.Status.ACTIVE:
        raise NotPermitted("Your membership is suspended.", code="membership_suspended")
    return Principal(found.tenant_id, found.tenant_slug, "user", user.pk, user.get_username(), found.role)


def authenticate_ticket(ticket: str) -> Principal:
    """Use up a socket ticket, `<tenant>.<secret>`. Raises NotAuthenticated for a wrong, used or expired one."""
    tenant, _, secret = ticket.partition(".")
    try:
        tenant_id = UUID(tenant)
    except ValueError:
        raise NotAuthenticated("The ticket is wrong.", code="invalid_ticket") from None
    with tenant_context(tenant_id), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM socket_ticket WHERE tenant_id = %s AND secret_hash = %s RETURNING principal::text, expires_at",
            [tenant_id, secret_digest(secret)],
        )
        row = cursor.fetchone()
        if row is None or row[1] <= timezone.now():
            raise NotAuthenticated("The ticket is wrong, used or expired.", code="invalid_ticket")
        return refreshed(Principal.from_dict(tenant_id, json.loads(row[0])))


def refreshed(principal: Principal) -> Principal:
    """The principal, which is as it was. Raises what `ended` has against it."""
    fault = ended([principal]).get(principal)
    if fault is not None:
        raise fault
    return principal


def ended(principals: Collection[Principal]) -> dict[Principal, ApplicationError]:
    """Those that ended or were lowered, each with a NotAuthenticated or NotPermitted; of any tenants, in one statement.

    Long-lived connections ask this every few seconds; it reads past every cache.
    """
    asked = [[who.id for who in principals if who.kind == kind] for kind in ("api_key", "user", "guest")]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM live_principals(%s::uuid[], %s::uuid[], %s::uuid[])", asked)
        live = {row[:3]: row[3:] for row in cursor.fetchall()}
    found = ((who, _fault(who, live.get((who.kind, who.tenant_id, who.id)))) for who in principals)
    return {who: fault for who, fault in found if fault is not None}


def _fault(principal: Principal, live: tuple[str, str, str | None, list[str] | None] | None) -> ApplicationError | None:
    role, tenant_status, agent, origins = live or (None, Tenant.Status.ACTIVE, None, None)
    if tenant_status != Tenant.Status.ACTIVE:
        return NotPermitted("This tenant is suspended.", code="tenant_suspended")
    if principal.kind == "guest":
        return _guest_fault(principal.widget, role is not None, agent, origins or [])
    if role == principal.role:
        return None
    if principal.kind == "api_key":
        return NotAuthenticated("The API key was revoked or has expired.", code="api_key_revoked")
    return NotPermitted("Your role in this tenant changed.", code="membership_changed")


def _guest_fault(widget: Widget | None, lives: bool, agent: str | None, origins: list[str]) -> ApplicationError | None:
    if not lives:
        return invalid_guest()
    if widget is not None and not widget.origins <= set(origins):
        return NotPermitted("Pages of this origin may no longer use this widget.", code="origin")
    if widget is not None and widget.agent != agent:
        return NotPermitted("This widget has another agent now: begin a new conversation.", code="agent_changed")
    return None
