"""Writes to publishable keys, by which the widgets on other sites' pages talk with one agent."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.utils import timezone

from agents.selectors import agent_find
from core import audit
from core.errors import Conflict
from core.validation import invalid
from sessions_app.selectors.widgets import publishable_key_get
from tenants.authentication import forget_guests
from tenants.models import PublishableKey
from tenants.permissions import authorize
from tenants.principal import Principal

KEY = "pk_"
MAX_ORIGINS = 20
MAX_PER_MINUTE = 10_000  # of a key's limits
_PORTS = {"http": 80, "https": 443}  # which browsers leave out
_FACTS = ("name", "agent", "origins", "visitors_per_minute", "messages_per_minute")


@transaction.atomic
def publishable_key_create(
    *, actor: Principal, name: str, agent: str, origins: Sequence[str], **limits: int
) -> PublishableKey:
    """`limits` are visitors_per_minute and messages_per_minute. Raises InvalidRequest with every fault."""
    authorize(actor, "api_key.edit")
    key = PublishableKey(tenant_id=actor.tenant_id, created_by=actor.label)
    key.token = f"{KEY}{actor.tenant_id.hex}_{secrets.token_urlsafe(18)}"
    _set(key, _checked(actor, {"name": name, "agent": agent, "origins": origins, **limits}))
    key.save(force_insert=True)
    audit.record(actor=actor, action="publishable_key.create", target=key, after=_facts(key))
    return key


@transaction.atomic
def publishable_key_update(*, actor: Principal, ref: str, changes: Mapping[str, Any]) -> PublishableKey:
    """Guests whom it no longer covers are refused within 5 s. Raises Conflict for a revoked key."""
    authorize(actor, "api_key.edit")
    key = _locked(actor, ref)
    if key.revoked_at is not None:
        raise Conflict("The publishable key was revoked: make another.", code="publishable_key_revoked")
    before = _facts(key)
    _set(key, _checked(actor, changes))
    if _facts(key) != before:
        key.save(update_fields=_FACTS)
        transaction.on_commit(forget_guests)
        audit.record(actor=actor, action="publishable_key.update", target=key, before=before, after=_facts(key))
    return key


@transaction.atomic
def publishable_key_revoke(*, actor: Principal, ref: str) -> PublishableKey:
    """It and all its guests are refused within 5 s, for good. Revoking a revoked key changes nothing."""
    authorize(actor, "api_key.edit")
    key = _locked(actor, ref)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        transaction.on_commit(forget_guests)
        audit.record(actor=actor, action="publishable_key.revoke", target=key, before=_facts(key))
    return key


def _locked(actor: Principal, ref: str) -> PublishableKey:
    keys = PublishableKey.objects.select_for_update().filter(tenant_id=actor.tenant_id)
    return keys.get(id=publishable_key_get(actor=actor, ref=ref).id)


def _facts(key: PublishableKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in _FACTS}


def _set(key: PublishableKey, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(key, name, value)


def _checked(actor: Principal, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are stored: the agent by its slug, each origin once."""
    stored, faults = dict(values), []
    if "agent" in values:
        agent = agent_find(actor=actor, ref=values["agent"])
        if agent is None:
            faults.append({"path": "agent", "code": "agent_not_found", "message": "No agent with this slug or id."})
        else:
            stored["agent"] = agent.slug
    if "origins" in values:
        stored["origins"] = list(dict.fromkeys(values["origins"]))
        faults += _origins_faults(stored["origins"])
    if faults:
        raise invalid(faults)
    return stored


def _origins_faults(origins: Sequence[str]) -> Iterable[dict[str, Any]]:
    if not 1 <= len(origins) <= MAX_ORIGINS:
        message = f"Give 1 to {MAX_ORIGINS} origins; for more pages make another publishable key."
        yield {"path": "origins", "code": "invalid", "message": message}
    for index, origin in enumerate(origins):
        if not _is_origin(origin):
            message = (
                "Write it as browsers send it, such as https://shop.example or http://localhost:3000: http or https, "
                "a host in lower case, no path, no *, no port that goes without saying."
            )
            yield {"path": f"origins.{index}", "code": "invalid_origin", "message": message}


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme not in _PORTS or not host or not host.isascii() or not set(host).isdisjoint("*%_ "):
        return False
    host = f"[{host}]" if ":" in host else host
    return text == f"{parts.scheme}://{host}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")
