"""Writes to toolsets."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from core import audit
from core.errors import Conflict
from core.uses import refuse_if_used
from core.validation import invalid
from tenants.permissions import authorize
from tenants.principal import Principal
from toolsets.learning import learn_anew
from toolsets.models import Toolset
from toolsets.secrets import set_secrets
from toolsets.selectors import by_ref, toolset_not_found
from toolsets.validation import Fault, held_secrets, moved_places, place_faults, toolset_faults

FIELDS = ("slug", "name", "config", "policy", "enabled")  # the kind stays what it was


def toolset_create(
    *,
    actor: Principal,
    slug: str,
    name: str,
    kind: str,
    config: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    secrets: Mapping[str, str | None] | None = None,
    enabled: bool = True,
) -> Toolset:
    """Raises InvalidRequest with every fault, Conflict when the slug is taken. Secrets go in and never come out."""
    authorize(actor, "toolset.edit")
    values = {"slug": slug, "name": name, "kind": kind, "config": config or {}, "policy": policy or {}}
    _refuse(toolset_faults({**values, "secrets": secrets, "held": held_secrets((), secrets or {})}))
    toolset = Toolset(tenant_id=actor.tenant_id, enabled=enabled, **values)
    set_secrets(toolset, secrets or {})
    with transaction.atomic():
        learn_anew(toolset)
        _save(toolset, force_insert=True)
        after = {**values, "enabled": enabled, "secrets": toolset.secret_names}
        audit.record(actor=actor, action="toolset.create", target=toolset, after=after)
    return toolset


@transaction.atomic
def toolset_update(*, actor: Principal, ref: str, changes: Mapping[str, Any]) -> Toolset:
    """Change some of FIELDS, and of `secrets` those that are named (None takes one away). Raises as `toolset_create`
    does, NotFound, and Conflict for another slug while an agent is granted it.

    `config` and `policy` are replaced as a whole. Agents use it so from their next run.
    """
    authorize(actor, "toolset.edit")
    toolset = _locked(actor, ref)
    before = {name: getattr(toolset, name) for name in FIELDS}
    after = {**before, **{name: changes[name] for name in FIELDS if name in changes}}
    changed = [name for name in FIELDS if before[name] != after[name]]
    secrets = changes.get("secrets") or {}
    if not (changed or secrets):
        return toolset
    moved = bool(moved_places(toolset, after["config"]))
    learned = toolset.learned if "policy" in changed and not moved else None  # for a policy that names tools
    given: dict[str, Any] = {"secrets": secrets, "learned": learned}
    if "config" in changed or secrets:
        given["held"] = held_secrets(toolset.secret_names, secrets)
    _refuse(toolset_faults({**after, "kind": toolset.kind, **given}))
    _refuse(place_faults(toolset, after["config"], secrets))
    if "slug" in changed:
        refuse_if_used("toolset", actor.tenant_id, toolset.slug)
    told_before = {name: before[name] for name in changed}
    told_after = {name: after[name] for name in changed}
    for name in changed:
        setattr(toolset, name, after[name])
    if secrets:
        told_before["secrets"] = toolset.secret_names
        set_secrets(toolset, secrets)
        told_after["secrets"] = toolset.secret_names
    if "config" in changed or secrets:
        changed += learn_anew(toolset, moved=moved)
    _save(toolset, update_fields=[*changed, "secrets", "secret_names", "updated_at"])
    audit.record(actor=actor, action="toolset.update", target=toolset, before=told_before, after=told_after)
    return toolset


@transaction.atomic
def toolset_delete(*, actor: Principal, ref: str) -> None:
    """Raises NotFound, and Conflict while an agent is granted it."""
    authorize(actor, "toolset.edit")
    toolset = _locked(actor, ref)
    refuse_if_used("toolset", actor.tenant_id, toolset.slug)
    before = {"slug": toolset.slug, "kind": toolset.kind, **{name: getattr(toolset, name) for name in FIELDS}}
    audit.record(actor=actor, action="toolset.delete", target=toolset, before=before)
    toolset.delete()


def _locked(actor: Principal, ref: str) -> Toolset:
    toolsets = Toolset.objects.select_for_update().filter(tenant_id=actor.tenant_id)
    toolset = by_ref(toolsets, ref).first()
    if toolset is None:
        raise toolset_not_found(ref)
    return toolset


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise invalid(faults)


def _save(toolset: Toolset, **options: Any) -> None:
    try:
        with transaction.atomic():
            toolset.save(**options)
    except IntegrityError:
        message = f"A toolset with the slug '{toolset.slug}' exists."
        raise Conflict(message, code="slug_taken", param="slug") from None
