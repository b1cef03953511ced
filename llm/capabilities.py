"""What a tenant's model can do: the kind's word, the catalog's, and before both the tenant's own."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec
from django.db.models import Q

from core.kept import Kept
from core.validation import invalid
from llm.catalog.lookup import catalog_entry
from llm.catalog.matrix import Capabilities
from llm.catalog.vendors import vendor_of
from llm.models import ProviderModel
from llm.providers import provider_kind
from llm.targets import Target
from llm.wire import PART_MEDIA, ChatRequest
from usage.prices import quote

# What a request needs, as the capability that says whether a model takes it.
NEEDS = {"tools": "tools", "json_schema": "json_schema", "images": "vision", "audio": "audio", "documents": "documents"}
WORDS = {
    "tools": "tools",
    "json_schema": "answers by a JSON schema",
    "vision": "images",
    "audio": "audio",
    "documents": "documents",
}


class ModelSetting(NamedTuple):
    enabled: bool
    overrides: Mapping[str, Any]


_settings: Kept[tuple[UUID, str], dict[str, ModelSetting]] = Kept()


class Access(Protocol):
    """A provider's row, or the connection made from it."""

    @property
    def tenant_id(self) -> UUID | None: ...
    @property
    def slug(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def base_url(self) -> str: ...


def capabilities_of(access: Access, model: str) -> Capabilities:
    """Without prices, and cheap: asked for every turn. What the tenant says counts at once in this process."""
    setting = _settings_of(access).get(model)
    known = _known(access.kind, access.base_url, model)
    return msgspec.structs.replace(known, **setting.overrides) if setting else known


def capabilities_with(access: Access, model: str, overrides: Mapping[str, Any]) -> Capabilities:
    """With prices, and with the overrides of a row that was read."""
    known = _known(access.kind, access.base_url, model)
    return msgspec.structs.replace(known, **_prices(access, model), **overrides)


def capability_sources(access: Access, model: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Where each known value comes from: `kind`, `catalog`, `price` (what counts for the tenant) or `override`."""
    kind = provider_kind(access.kind)
    entry = catalog_entry(vendor_of(access.kind, access.base_url), model)
    sources = dict.fromkeys(kind.capabilities(model).known() if kind else (), "kind")
    sources |= dict.fromkeys(entry.known.known() if entry else (), "catalog")
    sources |= dict.fromkeys(_prices(access, model), "price")
    return sources | dict.fromkeys(overrides, "override")


def takes_schemas(target: Target) -> bool:
    """Are all models that may answer known to hold to a JSON Schema?"""
    able = [capabilities_of(model.connection, model.model).json_schema for model in target.models()]
    return bool(able) and all(able)


def model_enabled(access: Access, model: str) -> bool:
    setting = _settings_of(access).get(model)
    return setting is None or setting.enabled


def forget_models(tenant_id: UUID, slug: str) -> None:
    """After a change: calls in this process see it at once."""
    _settings.forget((tenant_id, slug))


@lru_cache(maxsize=4096)
def _known(kind_slug: str, base_url: str, model: str) -> Capabilities:
    kind = provider_kind(kind_slug)
    said = kind.capabilities(model) if kind else Capabilities()
    entry = catalog_entry(vendor_of(kind_slug, base_url), model)
    return msgspec.structs.replace(said, **entry.known.known()) if entry else said


def _prices(access: Access, model: str) -> dict[str, Decimal]:
    """What counts for the tenant now: its own price, or the list's."""
    if access.tenant_id is None:
        return {}
    vendor, now = vendor_of(access.kind, access.base_url), datetime.now(UTC)
    quoted = quote(tenant_id=access.tenant_id, vendor=vendor, provider=access.slug, model=model, at=now)
    unit = quoted.price.of(0) if quoted.price else None
    return {"input_price": unit.input, "output_price": unit.output} if unit else {}


def _settings_of(access: Access) -> Mapping[str, ModelSetting]:
    """Of the provider's models that a person has switched off, or said something of."""
    if access.tenant_id is None:
        return {}
    return _settings.get((access.tenant_id, access.slug), partial(_read_settings, access.tenant_id, access.slug))


def _read_settings(tenant_id: UUID, slug: str) -> dict[str, ModelSetting]:
    changed = Q(enabled=False) | ~Q(overrides={})
    rows = ProviderModel.objects.filter(changed, tenant_id=tenant_id, provider__slug=slug)
    return {name: ModelSetting(*rest) for name, *rest in rows.values_list("name", "enabled", "overrides")}


def refuse_unsupported(request: ChatRequest, capabilities: Capabilities) -> None:
    """Raises InvalidRequest for what the model is known not to take; what is not known is the provider's to judge."""
    lacks = [(param, need) for param, need in _needs(request) if getattr(capabilities, need) is False]
    if lacks:
        raise invalid([_unsupported(param, need, request.model) for param, need in lacks])


def _needs(request: ChatRequest) -> Iterator[tuple[str, str]]:
    """Each part of a request that not every model takes, by where it is."""
    if request.params.get("tools"):
        yield "tools", "tools"
    if (request.params.get("response_format") or {}).get("type") == "json_schema":
        yield "response_format", "json_schema"
    for index, message in enumerate(request.messages):
        content = message.get("content")
        for part, item in enumerate(content if isinstance(content, list) else ()):
            if media := PART_MEDIA.get(item.get("type", "")):
                yield f"messages.{index}.content.{part}", NEEDS[media]


def _unsupported(path: str, need: str, model: str) -> dict[str, Any]:
    message = f"The model '{model}' takes no {WORDS[need]}. If it does, say so in its provider's list of models."
    return {"path": path, "code": "unsupported_by_model", "message": message}
