"""Writes to the models of a provider: those that a person enters or corrects, and those that its test finds."""

from collections.abc import Iterable
from typing import Any, TypedDict

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from core import audit
from core.errors import Conflict, InvalidRequest, NotFound
from core.ids import uuid7
from llm.capabilities import forget_models
from llm.models import Provider, ProviderModel
from llm.selectors.models import model_get
from llm.selectors.providers import provider_get
from llm.validation.models import check_model, is_model_name
from tenants.permissions import authorize
from tenants.principal import Principal

MOST_FOUND = 10_000  # models of one provider that its test keeps
MAX_MODELS = 2 * MOST_FOUND  # with those that were entered


class ModelChanges(TypedDict, total=False):
    """What an update changes; `overrides` are replaced as a whole."""

    enabled: bool
    overrides: dict[str, Any]


@transaction.atomic
def model_create(
    *, actor: Principal, ref: str, name: str, overrides: dict[str, Any] | None = None, enabled: bool = True
) -> ProviderModel:
    """Enter a model. Raises InvalidRequest with every fault in `details`, NotFound, Conflict when it is there."""
    authorize(actor, "provider.edit")
    provider = provider_get(actor=actor, ref=ref)
    if ProviderModel.objects.filter(tenant_id=actor.tenant_id, provider_id=provider.id).count() >= MAX_MODELS:
        message = f"A provider has at most {MAX_MODELS:,} models: delete some; others may be asked all the same."
        raise InvalidRequest(message, code="too_many")
    stored = check_model(provider, name=name, overrides=overrides or {})
    model = ProviderModel(
        id=uuid7(),
        tenant_id=actor.tenant_id,
        provider=provider,
        name=name,
        entered=True,
        enabled=enabled,
        overrides=stored,
    )
    try:
        with transaction.atomic():
            model.save(force_insert=True)
    except IntegrityError:
        message = f"The provider '{provider.slug}' has the model '{name}' already: change that one."
        raise Conflict(message, code="model_exists", param="name") from None
    audit.record(actor=actor, action="provider_model.create", target=model, after=_facts(model))
    _forget_on_commit(model)
    return model


@transaction.atomic
def model_update(*, actor: Principal, ref: str, name: str, changes: ModelChanges) -> ProviderModel:
    """Raises InvalidRequest and NotFound. What changes nothing writes nothing."""
    authorize(actor, "provider.edit")
    model = _locked(actor, ref, name)
    before = _facts(model)
    if "overrides" in changes:
        model.overrides = check_model(model.provider, overrides=changes["overrides"])
    model.enabled = changes.get("enabled", model.enabled)
    if _facts(model) == before:
        return model
    model.save(update_fields=["overrides", "enabled", "updated_at"])
    audit.record(actor=actor, action="provider_model.update", target=model, before=before, after=_facts(model))
    _forget_on_commit(model)
    return model


@transaction.atomic
def model_delete(*, actor: Principal, ref: str, name: str) -> None:
    """Raises NotFound. A model that the provider lists comes back with its next test."""
    authorize(actor, "provider.edit")
    model = _locked(actor, ref, name)
    audit.record(actor=actor, action="provider_model.delete", target=model, before=_facts(model))
    _forget_on_commit(model)
    model.delete()


def models_found(provider: Provider, names: Iterable[str]) -> dict[str, int]:
    """Keep what a provider lists; the caller has the transaction and the audit row, for which it gets the figures.

    Models that are no longer listed go, unless a person entered, corrected or switched them off.
    """
    listed = list(dict.fromkeys(name for name in names if is_model_name(name)))[:MOST_FOUND]
    rows = ProviderModel.objects.filter(tenant_id=provider.tenant_id, provider_id=provider.id)
    untouched = rows.filter(entered=False, enabled=True, overrides={})
    removed = untouched.exclude(name__in=listed).delete()[0]
    return {"models_added": _add(provider, rows, listed), "models_removed": removed}


def _add(provider: Provider, rows: QuerySet[ProviderModel], listed: list[str]) -> int:
    """Another test at the same time may add them too."""
    known = set(rows.values_list("name", flat=True))
    new = [
        ProviderModel(tenant_id=provider.tenant_id, provider_id=provider.id, name=name)
        for name in listed
        if name not in known
    ]
    ProviderModel.objects.bulk_create(new, ignore_conflicts=True, batch_size=1000)
    return len(new)


def _locked(actor: Principal, ref: str, name: str) -> ProviderModel:
    found = model_get(actor=actor, ref=ref, name=name)
    rows = ProviderModel.objects.select_for_update(of=("self",)).select_related("provider")
    model = rows.filter(tenant_id=actor.tenant_id, id=found.id).first()
    if model is None:
        raise NotFound("The model was deleted.")
    return model


def _forget_on_commit(model: ProviderModel) -> None:
    tenant_id, slug = model.tenant_id, model.provider.slug
    transaction.on_commit(lambda: forget_models(tenant_id, slug))


def _facts(model: ProviderModel) -> dict[str, Any]:
    return {
        "provider": model.provider.slug,
        "name": model.name,
        "entered": model.entered,
        "enabled": model.enabled,
        "overrides": model.overrides,
    }
