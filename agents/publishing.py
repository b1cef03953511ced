"""The code that a version of an agent pins: found before its version is written, kept with it, read by its runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync

from agents.exceptions import AgentUnusable
from agents.models import AgentVersion, VersionCode
from core.aio import return_connections
from core.errors import Conflict, NotFound
from core.ids import uuid7
from core.validation import invalid, parse_config
from templates_app.base import AgentTemplate
from templates_app.context import Published
from templates_app.registry import registry
from tenants.principal import Principal
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.workspace import workspace_of

PINNED_BY = ("template", "template_version", "config")  # fields that decide what is pinned


@dataclass(frozen=True, slots=True)
class Pinned:
    """`code`, found for a configuration with these fields `of` an agent."""

    of: dict[str, Any]
    code: Published = field(repr=False)


def pin(*, actor: Principal, values: Mapping[str, Any]) -> Pinned | None:
    """Of checked values; None where the template pins nothing.

    Takes seconds where code is fetched and packages are resolved: no transaction may be open. Raises InvalidRequest
    with every fault, and what fetching and resolving raise.
    """
    template = _publishing(values)
    if template is None:
        return None
    config = parse_config(template.Config, values["config"])
    return_connections()
    code = async_to_sync(template.publish)(config, partial(_read, actor.tenant_id))
    return Pinned(_decisive(values), code)


def publishes(values: Mapping[str, Any]) -> bool:
    return _publishing(values) is not None


def digest(pinned: Pinned | None, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Of the code that an agent has `after` a change. Raises Conflict when it is not known, by a change meanwhile."""
    if not publishes(after):
        return ""
    if pinned is not None and pinned.of == _decisive(after):
        return pinned.code.digest
    if pinned is None and _decisive(before) == _decisive(after):
        kept: str = before["code"]
        return kept
    raise Conflict("The agent was changed at the same time; try again.", code="changed_meanwhile")


def _decisive(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in PINNED_BY}


def _publishing(values: Mapping[str, Any]) -> AgentTemplate | None:
    try:
        template = registry.get(values["template"], values["template_version"])
    except NotFound:
        return None
    return template if template.publishes else None


async def _read(tenant_id: UUID, path: str, most: int) -> bytes:
    """Of the tenant's shared workspace, at most `most` bytes and one. Raises InvalidRequest."""
    try:
        return await asyncio.to_thread(_read_now, tenant_id, path, most)
    except ToolError as error:
        fault = {"path": "config.content", "code": "file_unreadable", "message": str(error)}
        raise invalid([fault]) from None


def _read_now(tenant_id: UUID, path: str, most: int) -> bytes:
    with workspace_of(ToolCallContext(tenant_id), "tenant").open(path) as file:
        return file.read(most + 1)


def keep_code(version: AgentVersion, pinned: Pinned | None) -> None:
    """With a version that was just made: what is pinned, or what an earlier version of the agent has of its digest."""
    if not version.code:
        return
    row = VersionCode(id=uuid7(), tenant_id=version.tenant_id, version=version)
    code = pinned.code if pinned else None
    if code is None:
        versions = VersionCode.objects.filter(tenant_id=version.tenant_id, version__agent_id=version.agent_id)
        kept = versions.filter(version__code=version.code).first()
        if kept is None:
            raise AgentUnusable("The code of that version is no longer there; give the config again.")
        code = published(kept)
    row.language, row.source, row.packages = code.language, code.source, code.packages
    row.save(force_insert=True)


def published(row: VersionCode) -> Published:
    return Published(row.language, row.source, row.packages)


def published_of(tenant_id: UUID, version_id: UUID) -> Published | None:
    row = VersionCode.objects.filter(tenant_id=tenant_id, version_id=version_id).first()
    return published(row) if row else None
