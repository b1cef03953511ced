"""Asking outside servers for the tools of those toolsets that learn them (`LearningKind`)."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from core import audit
from core.aio import in_db_thread
from core.errors import Conflict
from core.jobs import enqueue
from core.validation import storable, storable_text
from tenants.permissions import authorize
from tenants.principal import Principal
from toolsets.base import MAX_LEARNED, LearningKind, ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.models import Toolset
from toolsets.secrets import StoredSecrets
from toolsets.selectors import learner_of, toolset_get, toolset_not_found

logger = logging.getLogger(__name__)
LEARN_SECONDS = 60.0
FIRST_RETRY = timedelta(minutes=1)  # after a failure, doubled with each further one
MAX_FAILURES = 20  # that are counted
MAX_ERROR = 1000  # characters
TOLD = 50  # names of tools in an audit event


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of asking: the names of the tools that the kind now knows, before any policy, or the error.

    `left_out` are lines about what the server told of and is no tool.
    """

    learned_at: datetime | None
    learn_error: str
    tools: list[str]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A toolset as it was when its server was asked."""

    toolset: Toolset
    kind: LearningKind
    config: Any
    context: ToolCallContext
    at: datetime


@dataclass(frozen=True, slots=True)
class _Answer:
    """`tools` are the names of what it is enough for, `before` those of what was known until then."""

    learned: Any
    error: str
    tools: list[str]
    before: list[str]


def learn_anew(toolset: Toolset, *, moved: bool = False) -> list[str]:
    """In the transaction that saves a toolset with a new config or new secrets; the names of the fields that change.

    Its server is asked by the worker, after the transaction. What was learned stays until then, but not where the
    toolset `moved` to another server.
    """
    learns = learner_of(toolset) is not None
    toolset.learn_due = timezone.now() if learns else None
    toolset.learn_error, toolset.learn_failures = "", 0
    if learns:
        enqueue("toolsets.learn", once=str(toolset.id), toolset_id=str(toolset.id))
    if learns and not moved:
        return ["learn_due", "learn_error", "learn_failures"]
    toolset.learned, toolset.learned_at = None, None
    return ["learn_due", "learn_error", "learn_failures", "learned", "learned_at"]


async def toolset_refresh(*, actor: Principal, ref: str, watching: bool = False) -> Refreshed:
    """Ask the toolset's server for its tools, and keep the answer. A server that fails is a result, not an error.

    Raises NotFound; Conflict for a toolset that has nobody to ask, and for one that was changed meanwhile, whose own
    job asks again; Unavailable for a broken one. `watching`: nobody asked for it, so that the audit is told only what
    has changed. No database connection is held while the server answers.
    """
    authorize(actor, "toolset.edit")
    asked = await in_db_thread(_begin, actor, ref)
    answer = await _ask(asked)
    return await in_db_thread(_end, actor, asked, answer, watching)


def _begin(actor: Principal, ref: str) -> _Asked:
    toolset = toolset_get(actor=actor, ref=ref, learned=True)
    learner = learner_of(toolset)
    if learner is None:
        raise Conflict(f"The toolset '{toolset.slug}' asks no server for its tools.", code="nothing_to_learn")
    context = ToolCallContext(actor.tenant_id, toolset=toolset.slug, secrets=StoredSecrets(toolset))
    return _Asked(toolset, *learner, context, timezone.now())


async def _ask(asked: _Asked) -> _Answer:
    before = await asyncio.to_thread(_known, asked)
    try:
        async with asyncio.timeout(LEARN_SECONDS):
            told = await asked.kind.learn(asked.config, asked.context)
        learned, tools = await asyncio.to_thread(_read, asked, told)
    except ToolError as error:
        return _Answer(None, storable_text(str(error))[:MAX_ERROR] or "The server gave no tools.", before, before)
    except TimeoutError:
        return _Answer(None, f"The server did not tell its tools within {LEARN_SECONDS:g} s.", before, before)
    except Exception:
        logger.exception("The tools of a toolset could not be learned", extra={"toolset": asked.toolset.slug})
        return _Answer(None, "Asking for the tools failed on this server.", before, before)
    return _Answer(learned, "", tools, before)


def _read(asked: _Asked, told: Any) -> tuple[Any, list[str]]:
    """What can be stored of it, and the tools that are made of that. Raises ToolError for too much."""
    learned = storable(told)
    size = len(orjson.dumps(learned))
    if size > MAX_LEARNED:
        raise ToolError(f"What the server tells of its tools has {size:,} bytes; {MAX_LEARNED:,} are read at most.")
    return learned, _names(asked, learned)


def _known(asked: _Asked) -> list[str]:
    """None of what was stored by another version of the kind and is no use to this one: the answer replaces it."""
    try:
        return _names(asked, asked.toolset.learned)
    except Exception:
        logger.exception("What a toolset has learned cannot be used", extra={"toolset": asked.toolset.slug})
        return []


def _names(asked: _Asked, learned: Any) -> list[str]:
    return sorted(tool.name for tool in asked.kind.learned_tools(asked.config, learned))


@transaction.atomic
def _end(actor: Principal, asked: _Asked, answer: _Answer, watching: bool) -> Refreshed:
    """An answer to another config, and one that is older than what is known, are not kept."""
    rows = Toolset.objects.filter(tenant_id=actor.tenant_id, id=asked.toolset.id)
    toolset = rows.select_for_update().first()
    if toolset is None:
        raise toolset_not_found(asked.toolset.slug)
    if (toolset.config, toolset.secrets) != (asked.toolset.config, asked.toolset.secrets):
        raise Conflict("The toolset was changed while its server was asked: it is asked again.", code="toolset_changed")
    if toolset.learned_at is None or toolset.learned_at < asked.at:
        before, changed = toolset.learn_error, _keep(toolset, asked, answer)
        if not watching or changed or toolset.learn_error != before:
            audit.record(actor=actor, action="toolset.refresh", target=toolset, after=_facts(answer))
    left_out = asked.kind.left_out(toolset.learned)
    return Refreshed(toolset.learned_at, toolset.learn_error, answer.tools, left_out)


def _keep(toolset: Toolset, asked: _Asked, answer: _Answer) -> bool:
    """Whether what is known has changed: only then the toolset counts as changed, and agents are made anew."""
    changed = not answer.error and toolset.learned != answer.learned
    toolset.learn_error = answer.error
    toolset.learn_failures = min(toolset.learn_failures + 1, MAX_FAILURES) if answer.error else 0
    toolset.learn_due = timezone.now() + _wait(toolset.learn_failures)
    fields = ["learn_due", "learn_error", "learn_failures"]
    if not answer.error:
        toolset.learned_at = asked.at
        fields.append("learned_at")
    if changed:
        toolset.learned = answer.learned
        fields += ["learned", "updated_at"]
    toolset.save(update_fields=fields)
    return changed


def _wait(failures: int) -> timedelta:
    hours = timedelta(hours=settings.TOOLS_LEARN_HOURS)
    return min(FIRST_RETRY * 2 ** (failures - 1), hours) if failures else hours


def _facts(answer: _Answer) -> dict[str, Any]:
    if answer.error:
        return {"learn_error": answer.error}
    added, removed = set(answer.tools) - set(answer.before), set(answer.before) - set(answer.tools)
    return {"tools": len(answer.tools), "added": _first(added), "removed": _first(removed)}


def _first(names: set[str]) -> Sequence[str]:
    return sorted(names)[:TOLD]


def postpone(tenant_id: UUID, toolset_id: UUID) -> None:
    """One that cannot be asked, since its kind is gone or has nobody to ask any more, is looked at again later."""
    Toolset.objects.filter(tenant_id=tenant_id, id=toolset_id).update(learn_due=timezone.now() + _wait(0))
