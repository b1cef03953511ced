"""The rules of a provider row, checked together so that a caller sees every fault at once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as site
from pydantic import ValidationError

from core.errors import InvalidRequest
from core.ids import parse_uuid
from core.net import AddressRefused, check_url
from llm.models import Provider, ProviderKey
from llm.providers import provider_kind, provider_kinds
from llm.providers.base import LIMITS, Need, ProviderKind

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
RESERVED = frozenset({"kinds", "route"})  # a path of the API, and the prefix of routed model names
MAX_API_KEY = 4000
Fault = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderFields:
    """What a provider is to be. `has_secret`: one is stored, or comes with this change."""

    slug: str
    kind: str
    base_url: str
    settings: dict[str, Any]
    has_secret: bool
    api_key: str | None = None


def check_provider(fields: ProviderFields, extra: Sequence[Fault] = ()) -> None:
    """Raises one InvalidRequest whose `details` hold all faults, `extra` among them."""
    faults = [*_slug_faults(fields.slug), *extra]
    kind = provider_kind(fields.kind)
    if kind is None:
        known = ", ".join(kind.slug for kind in provider_kinds())
        faults.append(_fault("kind", "unknown_kind", f"There is no provider kind '{fields.kind}'; known: {known}."))
    else:
        faults += _base_url_faults(fields.base_url, kind)
        faults += _api_key_faults(fields, kind)
        faults += _settings_faults(fields.settings, kind)
    if faults:
        first = faults[0]
        raise InvalidRequest(first["message"], code=first["code"], param=first["path"], details=faults)


def change_faults(provider: Provider, *, base_url: str | None, kind: str | None, new_key: bool) -> list[Fault]:
    """What is wrong with a change, whatever the row becomes: a secret must not follow to another host unasked."""
    faults = []
    if kind is not None and kind != provider.kind:
        faults.append(_fault("kind", "immutable", "The kind of a provider cannot change: make another provider."))
    moved = base_url is not None and _origin(base_url) != _origin(provider.base_url)
    if moved and provider.secret is not None and not new_key:
        faults.append(_fault("api_key", "required", "Give the API key again: the base_url leads to another host."))
    if moved and ProviderKey.objects.filter(tenant_id=provider.tenant_id, provider_id=provider.id).exists():
        message = "Delete the provider's further keys first: the base_url leads to another host."
        faults.append(_fault("base_url", "keys_would_follow", message))
    return faults


def _origin(url: str) -> tuple[str, str]:
    try:
        return urlsplit(url)[:2]
    except ValueError:  # reported as a fault of base_url
        return "", url


def _fault(path: str, code: str, message: str) -> Fault:
    return {"path": path, "code": code, "message": message}


def _slug_faults(slug: str) -> list[Fault]:
    if slug in RESERVED or parse_uuid(slug):
        return [_fault("slug", "reserved", f"The slug '{slug}' has a meaning of its own: choose another.")]
    if not SLUG.match(slug):
        return [_fault("slug", "invalid", "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit.")]
    return []


def _base_url_faults(base_url: str, kind: ProviderKind) -> list[Fault]:
    faults = _need_faults("base_url", bool(base_url), kind.base_url, kind)
    if base_url and not faults:
        try:
            check_url(base_url, allow_private=site.ALLOW_PRIVATE_PROVIDERS)
        except AddressRefused as error:
            faults.append(_fault("base_url", error.code, error.message))
    return faults


def _api_key_faults(fields: ProviderFields, kind: ProviderKind) -> list[Fault]:
    faults = _need_faults("api_key", fields.has_secret, kind.api_key, kind)
    return faults + secret_faults(fields.api_key or "")


def secret_faults(api_key: str) -> list[Fault]:
    """Of a key as it is given, "" for none."""
    if len(api_key) > MAX_API_KEY or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        return [_fault("api_key", "invalid", "An API key is printable ASCII without blanks.")]
    return []


def limit_faults(limits: Mapping[str, Any]) -> list[Fault]:
    """Of LIMITS, those that are there."""
    return [
        _fault(name, "invalid", f"Give a whole number from 1 to {most}, or none.")
        for name, most in LIMITS.items()
        if (limit := limits.get(name)) is not None and not 1 <= limit <= most
    ]


def _need_faults(path: str, given: bool, need: Need, kind: ProviderKind) -> list[Fault]:
    if need == "required" and not given:
        return [_fault(path, "required", f"A provider of kind {kind.slug} needs {path}.")]
    if need == "none" and given:
        return [_fault(path, "not_allowed", f"A provider of kind {kind.slug} takes no {path}.")]
    return []


def _settings_faults(settings: dict[str, Any], kind: ProviderKind) -> list[Fault]:
    try:
        kind.Settings.model_validate(settings)
    except ValidationError as error:
        return [
            _fault(".".join(["settings", *map(str, fault["loc"])]), fault["type"], fault["msg"])
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    return []
