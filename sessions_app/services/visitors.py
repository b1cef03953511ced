"""Visitors: the guests of a publishable key, and the sessions that they begin."""

from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from agents.models import Agent
from agents.selectors import agent_for_chat
from audit.models import AuditEvent
from core.errors import InvalidRequest, NotAuthenticated, NotFound, NotPermitted, RateLimited
from core.ids import NIL
from core.tenant import tenant_context
from sessions_app.services.widgets import KEY
from tenants.authentication import invalid_guest, other_origin
from tenants.models import Guest, PublishableKey, Tenant
from tenants.permissions import authorize
from tenants.principal import Principal
from tenants.services.guests import guest_by_secret, guest_create

_WINDOW = timedelta(minutes=1)


class Visit(NamedTuple):
    guest: Guest
    secret: str
    agent: Agent
    is_new: bool


def visitor_open(*, token: str, origin: str, address: str | None, secret: str = "", name: str = "") -> Visit:
    """The visitor whose secret of this key it is, else a new one.

    Raises NotAuthenticated for a wrong or revoked key, NotPermitted for another origin or a suspended tenant,
    NotFound or AgentPaused where the agent does not answer, and RateLimited.
    """
    key = _usable(token)
    if origin not in key.origins:
        raise other_origin()
    nobody = Principal(key.tenant_id, key.tenant.slug, "guest", None, "", "member")
    with tenant_context(key.tenant_id), transaction.atomic():
        agent = _agent(nobody, key.agent)
        known = _known(key, secret)
        if known is not None:
            return Visit(known, secret, agent, is_new=False)
        network = _network(address)
        _check_visitors(key, network)
        lifetime = timedelta(days=settings.VISITOR_DAYS)
        guest, secret = guest_create(
            tenant_id=key.tenant_id, label=name or "Visitor", lifetime=lifetime, key=key, address=network
        )
        return Visit(guest, secret, agent, is_new=True)


def _agent(actor: Principal, slug: str) -> Agent:
    try:
        return agent_for_chat(actor=actor, ref=slug)
    except NotFound:
        message = "The widget's agent does not answer: activate it, or give the publishable key another."
        raise NotFound(message, code="agent_not_found") from None


def _usable(token: str) -> PublishableKey:
    try:
        tenant_id = UUID(token.removeprefix(KEY).partition("_")[0])
    except ValueError:
        raise _invalid_key() from None
    with tenant_context(tenant_id):
        keys = PublishableKey.objects.filter(tenant_id=tenant_id, token=token, revoked_at=None)
        key = keys.select_related("tenant").first()
    if key is None:
        raise _invalid_key()
    if key.tenant.status != Tenant.Status.ACTIVE:
        raise NotPermitted("This tenant is suspended.", code="tenant_suspended")
    return key


def _invalid_key() -> NotAuthenticated:
    return NotAuthenticated("The publishable key is wrong or was revoked.", code="invalid_publishable_key")


def _known(key: PublishableKey, secret: str) -> Guest | None:
    """None for a secret that is wrong or has ended: its browser is a new visitor's."""
    try:
        guest = guest_by_secret(secret)
    except NotAuthenticated:
        return None
    return guest if guest.key_id == key.id else None


def _network(address: str | None) -> str | None:
    """Of IPv6 the network of 64 bits, which one visitor has whole."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    return str(ip_network((found, 64), strict=False).network_address) if isinstance(found, IPv6Address) else str(found)


def _check_visitors(key: PublishableKey, network: str | None) -> None:
    """One at a time for a network, so that visitors who come together do not pass the limit together."""
    lock_for(f"visitors of {key.id} {network}")
    came = Guest.objects.filter(tenant_id=key.tenant_id, key_id=key.id, address=network)
    message = (
        f"{key.visitors_per_minute} new visitors came from your network within a minute; the publishable key's "
        "visitors_per_minute raises this."
    )
    refuse_more(came, key.visitors_per_minute, message, "too_many_visitors")


def lock_for(what: str) -> None:
    """Until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [what])


def refuse_more(rows: QuerySet[Any], limit: int, message: str, code: str) -> None:
    """Raises RateLimited where `limit` of the rows were made within the last minute."""
    now = timezone.now()
    times: list[datetime] = list(
        rows.filter(created_at__gt=now - _WINDOW).order_by("-created_at").values_list("created_at", flat=True)[:limit]
    )
    if len(times) >= limit:
        raise RateLimited(message, code=code, retry_after=(times[-1] + _WINDOW - now).total_seconds())


def visitor_agent(*, actor: Principal, agent: str | None, external_id: str | None, end_user: str | None) -> Agent:
    """The agent of a guest's new session, in the transaction that makes it.

    Raises NotPermitted for a guest of no widget and for another agent, InvalidRequest for what only programs give,
    RateLimited for who begins more sessions than they may say messages.
    """
    authorize(actor, "session.edit")
    if actor.widget is None:
        message = "A guest takes part in the session of their invitation and begins no other."
        raise NotPermitted(message, code="not_for_guests")
    if external_id or end_user:
        param = "external_id" if external_id else "user_id"
        raise InvalidRequest("A visitor gives neither external_id nor user_id.", param=param)
    found = _agent(actor, actor.widget.agent)
    if agent not in (None, found.slug, str(found.id)):
        raise NotPermitted("A visitor talks with the widget's agent only.", code="agent_not_for_guests")
    _check_sessions(actor)
    return found


def messages_per_minute(actor: Principal) -> int | None:
    """By the publishable key of a visitor; None for a guest who came by none."""
    keys = PublishableKey.objects.filter(tenant_id=actor.tenant_id, guests__id=actor.id or NIL)
    return keys.values_list("messages_per_minute", flat=True).first()


def _check_sessions(actor: Principal) -> None:
    lock_for(f"sessions of guest {actor.id}")
    limit = messages_per_minute(actor)
    if limit is None:  # removed a moment ago
        raise invalid_guest()
    begun = AuditEvent.objects.filter(  # which stays when the session is deleted
        tenant_id=actor.tenant_id, actor_kind="guest", actor_id=actor.id or NIL, action="session.create"
    )
    message = f"A visitor may begin {limit} sessions a minute; the publishable key's messages_per_minute raises this."
    refuse_more(begun, limit, message, "too_many_sessions")
