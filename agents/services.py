"""Writes to agents. A configuration is never changed: each change makes a version, and the agent points to its last."""

from collections.abc import Collection, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from agents.exceptions import agent_not_found, version_not_found
from agents.models import Agent, AgentVersion
from agents.publishing import PINNED_BY, Pinned, digest, keep_code, pin, publishes
from agents.selectors import agent_get, by_ref
from agents.upgrades import Upgrade, upgrade_of
from agents.validation import Report, check_agent
from core import audit
from core.errors import Conflict, InvalidRequest
from core.ids import uuid7
from core.validation import invalid
from templates_app.base import AgentTemplate
from tenants.permissions import authorize
from tenants.principal import Principal

# What a version holds; the slug and the status are the agent's own.
VERSIONED = (
    "name",
    "template",
    "template_version",
    "model",
    "instructions",
    "toolsets",
    "config",
    "when_busy",
    "max_concurrent_runs",
    "cache_seconds",
    "join_calls",
    "metadata",
    "code",
)


def agent_create(
    *,
    actor: Principal,
    slug: str,
    name: str,
    template: str,
    model: str,
    template_version: str | None = None,
    instructions: str = "",
    config: Mapping[str, Any] | None = None,
    toolsets: list[str] | None = None,
    when_busy: str = AgentVersion.WhenBusy.QUEUE,
    max_concurrent_runs: int | None = None,
    cache_seconds: int | None = None,
    join_calls: bool = False,
    metadata: Mapping[str, Any] | None = None,
    status: str = Agent.Status.DRAFT,
) -> Agent:
    """An agent with its version 1, by default as a draft on the template's highest version.

    Raises InvalidRequest with every fault in `details`, Conflict when the slug is taken.
    """
    authorize(actor, "agent.edit")
    values = {
        "name": name,
        "template": template,
        "template_version": template_version,
        "model": model,
        "instructions": instructions,
        "config": dict(config or {}),
        "toolsets": list(toolsets or []),
        "when_busy": when_busy,
        "max_concurrent_runs": max_concurrent_runs,
        "cache_seconds": cache_seconds,
        "join_calls": join_calls,
        "metadata": dict(metadata or {}),
        "code": "",
    }
    _check_status(status)
    values = _checked(actor, {"slug": slug, **values})
    pinned = pin(actor=actor, values=values)
    values["code"] = pinned.code.digest if pinned else ""
    agent = Agent(id=uuid7(), tenant_id=actor.tenant_id, slug=slug, status=status)
    version = _version(actor, agent, 1, values)
    agent.version = version
    with transaction.atomic():
        _save(agent, force_insert=True)  # the key to its version is checked at the commit
        version.save(force_insert=True)
        keep_code(version, pinned)
        audit.record(actor=actor, action="agent.create", target=agent, after={**_facts(agent), **values})
    return agent


def agent_update(*, actor: Principal, ref: str, changes: Mapping[str, Any]) -> Agent:
    """Change the slug or some of VERSIONED, `config` and `metadata` as a whole. No change makes no version.

    Without a `template_version` the agent keeps the one it has pinned, or takes the highest of another template. A
    config that is given pins its code anew, from a file or URL that may have changed.
    Raises as `agent_create` does, NotFound, and Conflict when a config was changed at the same time.
    """
    authorize(actor, "agent.edit")
    return _updated(actor, ref, changes, _pinned(actor, ref, changes))


def _pinned(actor: Principal, ref: str, changes: Mapping[str, Any]) -> Pinned | None:
    """Before the agent is locked. None: nothing, or what is pinned already."""
    if not any(name in changes for name in PINNED_BY):
        return None
    before = values_of(agent_get(actor=actor, ref=ref))
    wanted = _wanted(before, changes)
    return pin(actor=actor, values=_checked(actor, wanted, before["toolsets"])) if publishes(wanted) else None


@transaction.atomic
def _updated(actor: Principal, ref: str, changes: Mapping[str, Any], pinned: Pinned | None) -> Agent:
    agent = _locked(actor, ref)
    before = values_of(agent)
    wanted = _wanted(before, changes)
    if wanted == before and pinned is None:
        return agent
    if wanted == {**before, "slug": wanted["slug"]} and pinned is None:
        _refuse(check_agent(actor=actor, values={"slug": wanted["slug"]}))
    else:
        wanted.update(_checked(actor, wanted, before["toolsets"]))
        wanted["code"] = digest(pinned, before, wanted)
    return _apply(actor, agent, before, wanted, action="agent.update", pinned=pinned)


def _wanted(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: changes[name] for name in before if name in changes and name != "code"}
    if given.get("template", before["template"]) != before["template"]:
        given.setdefault("template_version", None)
    return {**before, **given}


@transaction.atomic
def agent_restore(*, actor: Principal, ref: str, number: int) -> Agent:
    """Make the configuration of an old version the current one, as a new version. Raises as `agent_update` does."""
    authorize(actor, "agent.edit")
    agent = _locked(actor, ref)
    old = AgentVersion.objects.filter(tenant_id=actor.tenant_id, agent_id=agent.id, number=number).first()
    if old is None:
        raise version_not_found(ref, number)
    before = values_of(agent)
    after = {"slug": agent.slug, **_checked(actor, _values(old), before["toolsets"])}
    return _apply(actor, agent, before, after, action="agent.restore", restored_from=number)


@transaction.atomic
def agent_migrate(*, actor: Principal, ref: str, to: AgentTemplate) -> Upgrade:
    """Bring an agent to another version of its template, as a new version; the old one can be restored.

    What is returned says why it was refused, where it was. Raises NotFound.
    """
    authorize(actor, "agent.edit")
    agent = _locked(actor, ref)
    upgrade = upgrade_of(actor=actor, values=values_of(agent), to=to)
    if upgrade.status == "ready":
        after = {**upgrade.before, "template_version": to.version, "config": upgrade.config}
        upgrade.number = _current(_apply(actor, agent, upgrade.before, after, action="agent.migrate")).number
    return upgrade


@transaction.atomic
def agent_status(*, actor: Principal, ref: str, status: str) -> Agent:
    """Set draft, active or paused; runs under way go on."""
    authorize(actor, "agent.edit")
    _check_status(status)
    agent = _locked(actor, ref)
    before = agent.status
    if status != before:
        agent.status = status
        agent.save(update_fields=["status", "updated_at"])
        audit.record(
            actor=actor, action="agent.status", target=agent, before={"status": before}, after={"status": status}
        )
    return agent


@transaction.atomic
def agent_delete(*, actor: Principal, ref: str) -> None:
    """Delete an agent with its versions. Its sessions, runs and messages stay and then name no version."""
    authorize(actor, "agent.edit")
    agent = _locked(actor, ref)
    audit.record(actor=actor, action="agent.delete", target=agent, before={**_facts(agent), **_values(_current(agent))})
    Agent.objects.filter(tenant_id=actor.tenant_id, id=agent.id).update(version=None)  # which protects its versions
    agent.delete()


def _locked(actor: Principal, ref: str) -> Agent:
    """Locked by itself and its version read afterwards: a join would be that of before the wait for the lock."""
    agents = Agent.objects.select_for_update().filter(tenant_id=actor.tenant_id)
    agent = by_ref(agents, ref).first()
    if agent is None:
        raise agent_not_found(ref)
    return agent


def _current(agent: Agent) -> AgentVersion:
    if agent.version is None:
        raise Conflict("The agent has no version.", code="no_version")
    return agent.version


def _values(version: AgentVersion) -> dict[str, Any]:
    return {name: getattr(version, name) for name in VERSIONED}


def values_of(agent: Agent) -> dict[str, Any]:
    """The slug and what the current version holds."""
    return {"slug": agent.slug, **_values(_current(agent))}


def _facts(agent: Agent) -> dict[str, Any]:
    return {"slug": agent.slug, "status": agent.status}


def _checked(actor: Principal, values: Mapping[str, Any], held: Collection[str] = ()) -> dict[str, Any]:
    """The versioned values as they are stored; raises InvalidRequest with every fault. `held` as in `check_agent`."""
    report = check_agent(actor=actor, values=values, held=held)
    _refuse(report)
    resolved = {"template_version": report.template_version, "config": report.config}
    return {name: resolved.get(name, values[name]) for name in VERSIONED}


def _refuse(report: Report) -> None:
    if not report.valid:
        raise invalid(report.errors)


def _check_status(status: str) -> None:
    if status not in Agent.Status.values:
        message = f"status must be one of {', '.join(Agent.Status.values)}."
        raise InvalidRequest(message, code="invalid_choice", param="status")


def _version(actor: Principal, agent: Agent, number: int, values: Mapping[str, Any]) -> AgentVersion:
    return AgentVersion(
        id=uuid7(),
        tenant_id=actor.tenant_id,
        agent=agent,
        number=number,
        created_by=actor.label[:200],
        **{name: values[name] for name in VERSIONED},
    )


def _apply(
    actor: Principal,
    agent: Agent,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    action: str,
    restored_from: int | None = None,
    pinned: Pinned | None = None,
) -> Agent:
    """Write what changed: a version if any of VERSIONED did, and one audit row. Nothing changed, nothing written."""
    changed = [name for name in after if after[name] != before[name]]
    if not changed:
        return agent
    old = _current(agent)
    agent.slug = after["slug"]
    if changed != ["slug"]:
        version = _version(actor, agent, old.number + 1, after)
        version.restored_from = restored_from
        version.save(force_insert=True)
        keep_code(version, pinned)
        agent.version = version
    _save(agent, update_fields=["slug", "version", "updated_at"])
    audit.record(
        actor=actor,
        action=action,
        target=agent,
        before={"version": old.number, **{name: before[name] for name in changed}},
        after={"version": _current(agent).number, **{name: after[name] for name in changed}},
    )
    return agent


def _save(agent: Agent, **options: Any) -> None:
    try:
        with transaction.atomic():
            agent.save(**options)
    except IntegrityError:
        raise Conflict(f"An agent with the slug '{agent.slug}' exists.", code="slug_taken", param="slug") from None
