"""Reads of toolsets; what belongs to another tenant is missing."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from pydantic import ValidationError

from core.errors import NotFound, Unavailable
from core.ids import parse_uuid
from core.validation import parse_config
from tenants.permissions import authorize
from tenants.principal import Principal
from toolsets.base import LearningKind, Tool, ToolsetKind
from toolsets.models import Toolset, ToolsetCredential
from toolsets.policy import Policy, applied, policy_of
from toolsets.registry import toolset_kinds
from toolsets.secrets import StoredSecrets
from toolsets.toolbox import GrantedToolset
from toolsets.validation import Fault, held_secrets, moved_places, place_faults, toolset_faults

logger = logging.getLogger(__name__)


def toolset_list(*, actor: Principal, q: str = "", kind: str = "") -> QuerySet[Toolset]:
    """By slug, without what was learned of them; `q` searches slug and name."""
    authorize(actor, "toolset.view")
    toolsets = Toolset.objects.filter(tenant_id=actor.tenant_id).defer("learned")
    if q:
        toolsets = toolsets.filter(Q(slug__icontains=q) | Q(name__icontains=q))
    if kind:
        toolsets = toolsets.filter(kind=kind)
    return toolsets


def by_ref(toolsets: QuerySet[Toolset], ref: str) -> QuerySet[Toolset]:
    """At most one: the toolset with this id or slug."""
    key = parse_uuid(ref)
    return toolsets.filter(id=key) if key else toolsets.filter(slug=ref)


def toolset_not_found(ref: str) -> NotFound:
    return NotFound(f"No toolset '{ref}'.", code="toolset_not_found")


def toolset_get(*, actor: Principal, ref: str, learned: bool = False) -> Toolset:
    """By id or slug, for `learned` with what its tools are made of; raises NotFound."""
    toolsets = toolset_list(actor=actor)
    found = by_ref(toolsets.defer(None) if learned else toolsets, ref).first()
    if found is None:
        raise toolset_not_found(ref)
    return found


def kind_list(*, actor: Principal) -> list[ToolsetKind]:
    authorize(actor, "toolset.view")
    return list(toolset_kinds().values())


def tool_list(*, actor: Principal, ref: str) -> list[Tool]:
    """The tools of a toolset by name. Raises Unavailable when its kind or config no longer works."""
    tools = toolset_usable(toolset_get(actor=actor, ref=ref, learned=True)).tools
    return sorted(tools, key=lambda tool: tool.name)


def toolset_usable(toolset: Toolset) -> GrantedToolset:
    """Raises Unavailable when its kind or config no longer works."""
    usable = usable_toolsets([toolset])
    if not usable:
        raise toolset_broken()
    return usable[toolset.slug]


def toolset_broken() -> Unavailable:
    message = "The toolset's kind is not installed or no longer takes its config."
    return Unavailable(message, code="toolset_broken")


def usable_toolsets(toolsets: Iterable[Toolset]) -> dict[str, GrantedToolset]:
    """By slug, without those whose kind this server lacks, or whose config the kind no longer takes.

    What a kind reads for its tools it reads once for all of its toolsets.
    """
    by_kind: dict[str, list[tuple[Toolset, Any, Policy]]] = {}
    for toolset in toolsets:
        if parsed := _parsed(toolset):
            by_kind.setdefault(toolset.kind, []).append((toolset, *parsed))
    usable = {}
    for kind, found in by_kind.items():
        offered = kind_tools(toolset_kinds()[kind], [(toolset, config) for toolset, config, _ in found])
        for (toolset, _, policy), tools in zip(found, offered, strict=True):
            usable[toolset.slug] = _usable(toolset, policy, tools)
    return usable


def _parsed(toolset: Toolset) -> tuple[Any, Policy] | None:
    """Its config and its policy."""
    kind = toolset_kinds().get(toolset.kind)
    if kind is None:
        return None
    try:
        return parse_config(kind.Config, toolset.config), policy_of(toolset.policy)
    except ValidationError:
        return None


def _usable(toolset: Toolset, policy: Policy, tools: Sequence[Tool]) -> GrantedToolset:
    """Without secrets, where they are those of a person."""
    personal = is_personal(toolset)
    return GrantedToolset(
        toolset.slug,
        f"{toolset.id}:{toolset.updated_at}",
        applied(policy, tools),
        policy,
        {} if personal else StoredSecrets(toolset),
        personal,
        reserved_kind(toolset),
    )


def kind_tools(kind: ToolsetKind, found: Sequence[tuple[Toolset, Any]]) -> Sequence[Sequence[Tool]]:
    """Of each of its toolsets with its config, before the policy; a kind that learns makes them of what it knows."""
    if isinstance(kind, LearningKind):
        return [kind.learned_tools(config, toolset.learned) for toolset, config in found]
    return kind.tools_of_each([config for _, config in found])


def learner_of(toolset: Toolset) -> tuple[LearningKind, Any] | None:
    """Kind and config of a toolset that has somebody to ask for its tools.

    Raises Unavailable when its kind, config or policy no longer works.
    """
    kind = toolset_kinds().get(toolset.kind)
    if kind is None:
        raise toolset_broken()
    if not isinstance(kind, LearningKind):
        return None
    try:
        config, _ = parse_config(kind.Config, toolset.config), policy_of(toolset.policy)
    except ValidationError:
        raise toolset_broken() from None
    return (kind, config) if kind.needs_learning(config) else None


def toolset_report(toolset: Toolset, changes: Mapping[str, Any]) -> tuple[list[Fault], list[str]]:
    """The faults that the toolset would have after the changes, and the names of its tools where it has none."""
    values = {name: changes.get(name, getattr(toolset, name)) for name in ("slug", "name", "config", "policy")}
    secrets = changes.get("secrets") or {}
    learned = None if moved_places(toolset, values["config"]) else toolset.learned
    known = learned if "policy" in changes else None
    given: dict[str, Any] = {"kind": toolset.kind, "secrets": secrets, "learned": known}
    if secrets or values["config"] != toolset.config:
        given["held"] = held_secrets(toolset.secret_names, secrets)
    faults = toolset_faults({**values, **given})
    if faults:
        return faults, []
    faults = place_faults(toolset, values["config"], secrets)
    changed = Toolset(kind=toolset.kind, config=values["config"], policy=values["policy"], learned=learned)
    return faults, sorted(tool.name for each in usable_toolsets([changed]).values() for tool in each.tools)


def toolsets_by_slug(*, actor: Principal, slugs: Iterable[str]) -> dict[str, Toolset]:
    """Those of the tenant's toolsets that exist, in one query; none for no slugs."""
    wanted = list(slugs)
    if not wanted:
        return {}
    found = Toolset.objects.filter(tenant_id=actor.tenant_id, slug__in=wanted)
    return {toolset.slug: toolset for toolset in found}


def granted_toolsets(
    *, actor: Principal, slugs: Sequence[str], person: str = "", agent: str = ""
) -> list[GrantedToolset]:
    """What an agent with these grants may use now, in their order. A disabled toolset is switched off for all agents;
    one that is missing or broken is left out as well, and logged, so that the agent can still answer.

    `person`: whom the run is for (toolsets/persons.py); `agent` is its slug, for the log. One query more where a
    toolset acts for persons.
    """
    found = toolsets_by_slug(actor=actor, slugs=slugs)
    usable = usable_toolsets(found.values())
    own = _credentials(actor, found.values(), person)
    for slug in slugs:
        if slug not in usable:
            logger.warning("The toolset '%s' granted to the agent '%s' is missing or broken", slug, agent)
    return [_for_person(usable[slug], found[slug], own) for slug in slugs if slug in usable and found[slug].enabled]


def is_personal(toolset: Toolset) -> bool:
    kind = toolset_kinds().get(toolset.kind)
    return kind is not None and kind.is_personal(toolset.config)


def granted_to(*, actor: Principal, toolset: Toolset, person: str) -> GrantedToolset:
    """For calls that are made for a person. Raises Unavailable when its kind or config no longer works."""
    return _for_person(toolset_usable(toolset), toolset, _credentials(actor, [toolset], person))


def _for_person(granted: GrantedToolset, toolset: Toolset, own: Mapping[UUID, ToolsetCredential]) -> GrantedToolset:
    credential = own.get(toolset.id)
    return replace(granted, secrets=StoredSecrets(credential)) if granted.personal and credential else granted


def _credentials(actor: Principal, toolsets: Iterable[Toolset], person: str) -> dict[UUID, ToolsetCredential]:
    """Of a person, by toolset; no query where no toolset asks for any."""
    asking = {toolset.id: toolset for toolset in toolsets if is_personal(toolset)}
    if not (asking and person):
        return {}
    rows = ToolsetCredential.objects.filter(tenant_id=actor.tenant_id, toolset_id__in=list(asking), person=person)
    found = {}
    for credential in rows:
        credential.toolset = asking[credential.toolset_id]
        found[credential.toolset_id] = credential
    return found


def reserved_kind(toolset: Toolset) -> str:
    """Its kind, where only agents may have it whose template names the kind; else nothing."""
    kind = toolset_kinds().get(toolset.kind)
    return toolset.kind if kind and kind.reserved else ""
