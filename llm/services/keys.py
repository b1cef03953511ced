"""Writes to the further keys of a provider; as of the main one, no secret comes out again."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from core import audit
from core.errors import Conflict, NotFound
from core.ids import uuid7
from core.validation import invalid
from llm.models import Provider, ProviderKey
from llm.providers import provider_kind
from llm.providers.base import LIMITS
from llm.selectors.keys import key_get
from llm.selectors.providers import forget_connection, provider_get
from llm.services.providers import set_secret
from llm.validation.providers import limit_faults, secret_faults
from tenants.permissions import authorize
from tenants.principal import Principal

MAX_KEYS = 20
MAX_LABEL = 63
FIELDS = ("label", "enabled", *LIMITS)


@transaction.atomic
def key_create(
    *,
    actor: Principal,
    provider: str,
    label: str,
    api_key: str,
    rpm: int | None = None,
    tpm: int | None = None,
    concurrent: int | None = None,
    enabled: bool = True,
) -> ProviderKey:
    """Raises NotFound, InvalidRequest with every fault in `details`, Conflict when the label is taken."""
    authorize(actor, "provider.edit")
    found = _locked(actor, provider)
    key = ProviderKey(id=uuid7(), tenant_id=actor.tenant_id, provider=found, label=label, enabled=enabled)
    key.rpm, key.tpm, key.concurrent = rpm, tpm, concurrent
    faults = _room_faults(found) + _faults(key) + secret_faults(api_key)
    if not api_key:
        faults.append({"path": "api_key", "code": "required", "message": "Give the key."})
    if faults:
        raise invalid(faults)
    set_secret(key, api_key)
    _save(key, force_insert=True)
    audit.record(actor=actor, action="provider_key.create", target=key, after=_facts(key))
    return key


@transaction.atomic
def key_update(*, actor: Principal, provider: str, ref: str, changes: Mapping[str, Any]) -> ProviderKey:
    """Change some of FIELDS, or the `api_key`. Raises as `key_create` does; what changes nothing writes nothing."""
    authorize(actor, "provider.edit")
    _locked(actor, provider)
    key = key_get(actor=actor, provider=provider, ref=ref)
    before = _facts(key)
    for name in FIELDS:
        setattr(key, name, changes.get(name, getattr(key, name)))
    api_key = changes.get("api_key")
    if faults := _faults(key) + secret_faults(api_key or ""):
        raise invalid(faults)
    if api_key:
        set_secret(key, api_key)
    elif _facts(key) == before:
        return key
    _save(key)
    audit.record(actor=actor, action="provider_key.update", target=key, before=before, after=_facts(key))
    return key


@transaction.atomic
def key_delete(*, actor: Principal, provider: str, ref: str) -> None:
    authorize(actor, "provider.edit")
    _locked(actor, provider)
    key = key_get(actor=actor, provider=provider, ref=ref)
    audit.record(actor=actor, action="provider_key.delete", target=key, before=_facts(key))
    _forget_on_commit(key)
    key.delete()


def _locked(actor: Principal, ref: str) -> Provider:
    """The provider's row serializes the changes to its keys."""
    found = provider_get(actor=actor, ref=ref)
    provider = Provider.objects.select_for_update().filter(tenant_id=actor.tenant_id, id=found.id).first()
    if provider is None:
        raise NotFound("The provider was deleted.")
    return provider


def _room_faults(provider: Provider) -> list[dict[str, Any]]:
    kind = provider_kind(provider.kind)
    if kind is not None and kind.api_key == "none":
        message = f"A provider of kind {kind.slug} takes no api_key."
        return [{"path": "api_key", "code": "not_allowed", "message": message}]
    if ProviderKey.objects.filter(tenant_id=provider.tenant_id, provider_id=provider.id).count() >= MAX_KEYS:
        message = f"A provider has at most {MAX_KEYS} further keys."
        return [{"path": "", "code": "too_many", "message": message}]
    return []


def _faults(key: ProviderKey) -> list[dict[str, Any]]:
    faults = []
    if not (key.label.strip() and len(key.label) <= MAX_LABEL and key.label.isprintable()):
        message = f"Give a label of 1 to {MAX_LABEL} characters."
        faults.append({"path": "label", "code": "invalid", "message": message})
    return faults + limit_faults({name: getattr(key, name) for name in LIMITS})


def _save(key: ProviderKey, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            key.save(force_insert=force_insert)
    except IntegrityError:
        message = f"The provider has a key with the label '{key.label}'."
        raise Conflict(message, code="label_taken", param="label") from None
    _forget_on_commit(key)


def _forget_on_commit(key: ProviderKey) -> None:
    tenant_id, slug = key.tenant_id, key.provider.slug
    transaction.on_commit(lambda: forget_connection(tenant_id, slug))


def _facts(key: ProviderKey) -> dict[str, Any]:
    """With the last characters of the secret alone."""
    shown = {name: getattr(key, name) for name in FIELDS}
    return {"provider": key.provider.slug, **shown, "api_key_last4": key.secret_last4}
