"""Writes to tenants, members, API keys and socket tickets."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from core import audit
from core.errors import Conflict, InvalidRequest, NotPermitted
from core.ids import NIL, uuid7
from core.tenant import tenant_context
from tenants.authentication import forget_api_key, secret_digest
from tenants.models import ApiKey, Membership, Role, SocketTicket, Tenant, User
from tenants.permissions import SCOPES, authorize, outranks
from tenants.principal import Principal, system_principal
from tenants.selectors import api_key_get, member_get

MAX_TENANT_RUNS = 100_000  # of one tenant at once
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def tenant_create(*, slug: str, name: str) -> Tenant:
    """A platform operation: a tenant with nobody in it yet. Raises Conflict when the slug is taken."""
    tenant = Tenant(id=uuid7(), slug=slug, name=name)
    with tenant_context(tenant.id):
        try:
            with transaction.atomic():
                tenant.save(force_insert=True)
                actor = system_principal(tenant.id, slug)
                audit.record(actor=actor, action="tenant.create", target=tenant, after={"slug": slug, "name": name})
        except IntegrityError:
            raise Conflict(f"A tenant with the slug {slug} exists.", code="slug_taken", param="slug") from None
    return tenant


@transaction.atomic
def tenant_update(*, actor: Principal, changes: Mapping[str, Any]) -> Tenant:
    """A platform operation: change name, status or max_concurrent_runs of the actor's tenant.

    Raises InvalidRequest for a limit that is no whole number from 1 to MAX_TENANT_RUNS, nor None.
    """
    authorize(actor, "tenant.edit")
    _check_limit(changes.get("max_concurrent_runs"))
    tenant = Tenant.objects.select_for_update().get(id=actor.tenant_id)
    before = _tenant_facts(tenant)
    after = {name: changes.get(name, value) for name, value in before.items()}
    for name, value in after.items():
        setattr(tenant, name, value)
    tenant.save(update_fields=[*after, "updated_at"])
    audit.record(actor=actor, action="tenant.update", target=tenant, before=before, after=after)
    return tenant


def _check_limit(limit: int | None) -> None:
    if limit is not None and not 1 <= limit <= MAX_TENANT_RUNS:
        message = f"Give a whole number from 1 to {MAX_TENANT_RUNS}, or none."
        raise InvalidRequest(message, param="max_concurrent_runs")


def _tenant_facts(tenant: Tenant) -> dict[str, Any]:
    return {name: getattr(tenant, name) for name in ("name", "status", "max_concurrent_runs")}


@transaction.atomic
def member_add(
    *, actor: Principal, username: str, role: str, email: str = "", password: str | None = None
) -> Membership:
    """Add a person. Who has no account yet gets one, with `password`; who has one keeps their own password.

    Raises InvalidRequest for a weak password, Conflict for a person who is a member already.
    """
    authorize(actor, "member.edit")
    _refuse_higher(actor, role)
    user = User.objects.filter(username=username).first() or _user_create(username, email, password)
    try:
        with transaction.atomic():
            member = Membership.objects.create(tenant_id=actor.tenant_id, user=user, role=role)
    except IntegrityError:
        raise Conflict(f"{username} is a member already.", code="already_member", param="username") from None
    audit.record(actor=actor, action="member.add", target=member, after={"username": username, "role": role})
    return member


def _user_create(username: str, email: str, password: str | None) -> User:
    user = User(username=username, email=email, is_staff=True)
    checked = "username"
    try:
        User.username_validator(username)
        checked = "password"
        if password is not None:
            validate_password(password, user)
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages), code="invalid_user", param=checked) from None
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return User.objects.get(username=username)  # another request made the same person
    return user


@transaction.atomic
def member_update(*, actor: Principal, ref: str, role: str | None = None, status: str | None = None) -> Membership:
    """Change role or status. Raises Conflict where it would leave the tenant without an active owner."""
    authorize(actor, "member.edit")
    member = _locked_member(actor, ref)
    before = {"role": member.role, "status": member.status}
    after = {"role": role or member.role, "status": status or member.status}
    if after == before:
        return member
    _refuse_higher(actor, member.role, after["role"])
    member.role, member.status = after["role"], after["status"]
    member.save(update_fields=["role", "status", "updated_at"])
    if before["role"] == Role.OWNER:
        _require_owner(actor)
    audit.record(actor=actor, action="member.update", target=member, before=before, after=after)
    return member


@transaction.atomic
def member_remove(*, actor: Principal, ref: str) -> None:
    authorize(actor, "member.edit")
    member = _locked_member(actor, ref)
    _refuse_higher(actor, member.role)
    before = {"username": member.user.username, "role": member.role}
    audit.record(actor=actor, action="member.remove", target=member, before=before)
    member.delete()
    if before["role"] == Role.OWNER:
        _require_owner(actor)


def _locked_member(actor: Principal, ref: str) -> Membership:
    """All owners are locked in one order, so that two owners cannot take each other's role at once."""
    owners = Membership.objects.filter(tenant_id=actor.tenant_id, role=Role.OWNER).order_by("id")
    list(owners.select_for_update())
    member = member_get(actor=actor, ref=ref)
    return Membership.objects.select_for_update(of=("self",)).select_related("user").get(id=member.id)


def _require_owner(actor: Principal) -> None:
    owners = Membership.objects.filter(tenant_id=actor.tenant_id, role=Role.OWNER, status=Membership.Status.ACTIVE)
    if not owners.exists():
        raise Conflict("A tenant needs an active owner. Make somebody else owner first.", code="last_owner")


def _refuse_higher(actor: Principal, *roles: str) -> None:
    if not outranks(actor, roles):
        raise NotPermitted(f"As {actor.role} you cannot give or change a higher role.", code="role_too_low")


@transaction.atomic
def api_key_create(
    *,
    actor: Principal,
    name: str,
    role: str,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its token, which is shown this once: only the SHA-256 of its secret is stored."""
    authorize(actor, "api_key.edit")
    _refuse_higher(actor, role)
    _check_scopes(actor, scopes)
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidRequest("expires_at lies in the past.", param="expires_at")
    _refuse_longer(actor, expires_at)
    key, token = _key_new(actor, name=name, role=role, scopes=sorted(set(scopes)), expires_at=expires_at)
    audit.record(actor=actor, action="api_key.create", target=key, after=_key_facts(key))
    return key, token


def _check_scopes(actor: Principal, scopes: Sequence[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise InvalidRequest(f"Unknown scope {unknown[0]}; known: {', '.join(SCOPES)}.", param="scopes")
    if actor.scopes and not (scopes and set(scopes) <= actor.scopes):
        raise NotPermitted("A key cannot make a key with scopes that it lacks.", code="scope_missing")


def _refuse_longer(actor: Principal, expires_at: datetime | None) -> None:
    """A key must not give itself more time by a key that outlives it."""
    if actor.kind != "api_key":
        return
    own = ApiKey.objects.filter(tenant_id=actor.tenant_id, id=actor.id or NIL).first()
    if own is not None and own.expires_at is not None and (expires_at is None or expires_at > own.expires_at):
        message = f"This key cannot make one that outlives it: give an expires_at up to {own.expires_at.isoformat()}."
        raise NotPermitted(message, code="expires_too_late")


def _key_new(actor: Principal, **fields: Any) -> tuple[ApiKey, str]:
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        tenant_id=actor.tenant_id,
        prefix=prefix,
        secret_hash=secret_digest(secret),
        created_by=actor.label,
        **fields,
    )
    return key, f"ask_{prefix}_{secret}"


def _key_facts(key: ApiKey) -> dict[str, Any]:
    expires = key.expires_at.isoformat() if key.expires_at else None
    return {"name": key.name, "prefix": key.prefix, "role": key.role, "scopes": key.scopes, "expires_at": expires}


@transaction.atomic
def api_key_rotate(*, actor: Principal, ref: str, overlap_seconds: int) -> tuple[ApiKey, str]:
    """A successor with the same rights; the old key works for `overlap_seconds` more, or until its own earlier end."""
    authorize(actor, "api_key.edit")
    old = _locked_key(actor, ref)
    _refuse_higher(actor, old.role)
    _check_scopes(actor, old.scopes)
    if old.revoked_at is not None:
        raise Conflict("The API key was revoked.", code="api_key_revoked")
    if old.expires_at is not None and old.expires_at <= timezone.now():
        raise Conflict("The API key has expired: make another.", code="api_key_expired")
    if actor.id != old.id:
        _refuse_longer(actor, old.expires_at)
    fields = {"name": old.name, "role": old.role, "scopes": old.scopes, "expires_at": old.expires_at}
    key, token = _key_new(actor, rotated_from=old, **fields)
    end = timezone.now() + timedelta(seconds=overlap_seconds)
    before = _key_facts(old)
    old.expires_at = min(end, old.expires_at) if old.expires_at else end
    old.save(update_fields=["expires_at"])
    transaction.on_commit(lambda: forget_api_key(old.prefix))
    audit.record(actor=actor, action="api_key.rotate", target=old, before=before, after=_key_facts(old))
    audit.record(actor=actor, action="api_key.create", target=key, after=_key_facts(key))
    return key, token


@transaction.atomic
def api_key_revoke(*, actor: Principal, ref: str) -> ApiKey:
    """Refused everywhere within 5 s, for good. Revoking a revoked key changes nothing."""
    authorize(actor, "api_key.edit")
    key = _locked_key(actor, ref)
    _refuse_higher(actor, key.role)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        transaction.on_commit(lambda: forget_api_key(key.prefix))
        audit.record(actor=actor, action="api_key.revoke", target=key, before=_key_facts(key))
    return key


def _locked_key(actor: Principal, ref: str) -> ApiKey:
    return ApiKey.objects.select_for_update().get(id=api_key_get(actor=actor, ref=ref).id)


def ticket_create(*, actor: Principal) -> tuple[str, int]:
    """A one-use socket ticket and how many seconds it lives."""
    authorize(actor, "session.view")
    secret = secrets.token_urlsafe(32)
    lifetime = settings.SOCKET_TICKET_SECONDS
    with transaction.atomic():
        ticket = SocketTicket.objects.create(
            tenant_id=actor.tenant_id,
            secret_hash=secret_digest(secret),
            principal=actor.as_dict(),
            expires_at=timezone.now() + timedelta(seconds=lifetime),
        )
        audit.record(actor=actor, action="socket_ticket.create", target=ticket)
    return f"{actor.tenant_id.hex}.{secret}", lifetime
