"""How a turn begins: one transaction for everything that must be there before a model is asked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from agents.models import Agent, AgentVersion
from agents.selectors import agent_for_chat
from core import audit
from core.errors import IdempotencyMismatch, InvalidRequest, RateLimited
from core.ids import uuid7
from core.rows import ask, row_insert, send
from llm.capabilities import capabilities_of, refuse_unsupported
from llm.selectors.providers import model_resolve
from llm.wire import ChatRequest
from runs.events import make_event
from runs.exceptions import SessionBusy
from runs.models import IdempotencyKey, Run
from runs.selectors import run_get
from runs.services.guests import check_guest, check_rate
from runs.services.lease import event_append, lease_create
from runs.services.replacing import joining, place_of
from runs.services.stop import cancel_request
from runs.services.turns import Turn, TurnRequest, turn_of
from runs.starting import author_of, started, stored
from sessions_app.models import ChatSession, Message
from sessions_app.services.replacing import messages_replace, refuse_others
from sessions_app.services.sessions import messages_append, session_for_turn
from templates_app.registry import registry
from tenants.permissions import authorize, is_confined
from tenants.principal import Principal

CLOSE_TO_LIMIT = 64  # more begins of one tenant than this are never under way at once
_TENANT_LIMIT = """
    SELECT coalesce(nullif(max_concurrent_runs, 0), $1::int),
        (SELECT count(*) FROM run WHERE run.tenant_id = tenant.id AND run.status = 'running')
    FROM tenant WHERE id = $2::uuid
"""
# A crash of the database may undo the begin of a call that ends with its caller: what was held for it goes with it, and
# the commit of its end is waited for.
_SOON = "SET LOCAL synchronous_commit = off"


@dataclass(frozen=True, slots=True)
class Begun:
    """`turn` is None when this process has nothing to run: the run waits for its turn, or was begun before.

    `interrupted` are runs that shall end for this one.
    """

    run: Run
    turn: Turn | None = None
    interrupted: list[UUID] = field(default_factory=list)


@transaction.atomic
def begin_turn(*, actor: Principal, request: TurnRequest, owner: UUID) -> Begun:
    """Session, user messages, run row and lease. Raises what the client did wrong; then nothing was written."""
    authorize(actor, "chat.run")
    if actor.kind == "guest":
        check_guest(actor, request)
    run_id = uuid7()
    repeated = _repeated(actor, request, run_id) if request.idempotency_key else None
    if repeated is not None:
        return Begun(repeated)
    if actor.kind == "guest":
        check_rate(actor)
    if "/" in request.model:
        return _begin_model_call(actor, request, run_id, owner)
    agent = agent_for_chat(actor=actor, ref=request.model)
    version = agent.version
    assert version is not None  # an active agent has one
    version.agent = agent
    _check_model(actor, version.model, request)
    session = session_for_turn(actor=actor, ref=request.session, agent=agent, end_user=request.end_user)
    open_runs = list(Run.objects.filter(tenant_id=actor.tenant_id, session_id=session.id, finished_at=None))
    empty = not (session.last_seq or open_runs)
    request = replace(
        request, replace_from=place_of(session, request), when_busy=request.when_busy or version.when_busy
    )
    new, replaces = joining(session=session, messages=request.messages, replace_from=request.replace_from, empty=empty)
    if replaces is not None:
        refuse_others(actor=actor, session=session, seq=replaces)
    interrupted = _make_way(actor, request, version, open_runs)
    run = _new_run(actor, request, id=run_id, model=version.model, session=session, version=version)
    if any(not other.is_finished for other in open_runs):  # those that waited have ended for an interrupt
        _run_create(actor, request, run)
        lease_create(run, None)
        return Begun(run, interrupted=interrupted)
    _check_limits(actor, agent, version)
    return Begun(run, _start_at_once(actor, request, run, owner, new, replaces))


def _start_at_once(
    actor: Principal,
    request: TurnRequest,
    run: Run,
    owner: UUID,
    messages: Sequence[dict[str, Any]] = (),
    replaces: int | None = None,
) -> Turn:
    first = make_event(1, "RUN_STARTED", _join(run, messages, replaces))
    if not run.outlives_caller:
        send(_SOON)
    _run_create(actor, request, run)
    lease_create(run, owner, [first])
    return turn_of(actor=actor, run=run, fence=1, stored=1, told=[first])


def run_start(*, actor: Principal, run: Run, fence: int) -> Turn:
    """A run that waited has its turn; the caller holds its lease and session.

    Raises what `joining` does: what it shall replace may have been replaced meanwhile.
    """
    fields = _joined(run)
    run.save(update_fields=["status", "started_at", "context_seq"])
    first = event_append(run, fence=fence, after=0, type="RUN_STARTED", fields=fields)
    return turn_of(actor=actor, run=run, fence=fence, stored=first.seq, told=[first])


def _joined(run: Run) -> dict[str, Any]:
    messages = run.request["messages"]
    if run.session is None:
        return _join(run, messages)
    asked = {"messages": messages, "replace_from": run.request.get("replace_from")}
    return _join(run, *joining(session=run.session, empty=not run.session.last_seq, **asked))


def _join(run: Run, messages: Sequence[dict[str, Any]], replaces: int | None = None) -> dict[str, Any]:
    """The messages join the run's session, in place of those from the seq `replaces` on, and it is running.

    The fields of its first event.
    """
    rows: list[Message] = []
    if run.session is not None:
        if replaces is not None:
            messages_replace(session=run.session, seq=replaces, run_id=run.id)
        rows = messages_append(session=run.session, messages=messages, run_id=run.id, author=author_of(run))
        run.context_seq = run.session.last_seq
    run.status, run.started_at = Run.Status.RUNNING, timezone.now()
    return started(run, stored(rows), replaces_from=replaces)


def _repeated(actor: Principal, request: TurnRequest, run_id: UUID) -> Run | None:
    """The run that the same request has begun before; None for the first, for which repetitions wait."""
    asked = [request.stored(), request.session, request.end_user, request.source]
    if is_confined(actor):  # keys are the tenant's: nobody finds another person's run by one
        asked.append(str(actor.id))
    body_hash = hashlib.sha256(orjson.dumps(asked)).digest()
    known = None
    while known is None:  # again when the key that was in the way has been deleted meanwhile
        if _take_key(actor, request, body_hash, run_id):
            return None
        keys = IdempotencyKey.objects.select_related("run__session", "run__agent_version__agent")
        known = keys.filter(tenant_id=actor.tenant_id, key=request.idempotency_key).first()
    if bytes(known.body_hash) != body_hash:
        message = "This Idempotency-Key was used for another request; use a new key for each."
        raise IdempotencyMismatch(message, param="Idempotency-Key")
    return run_get(actor=actor, ref=str(known.run_id)) if is_confined(actor) else known.run


def _take_key(actor: Principal, request: TurnRequest, body_hash: bytes, run_id: UUID) -> bool:
    """Waits for another transaction that takes the same key, or deletes it."""
    sql = """
        INSERT INTO idempotency_key (id, tenant_id, key, body_hash, run_id, created_at)
        VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (tenant_id, key) DO NOTHING
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [uuid7(), actor.tenant_id, request.idempotency_key, body_hash, run_id])
        return bool(cursor.rowcount)


def _begin_model_call(actor: Principal, request: TurnRequest, run_id: UUID, owner: UUID) -> Begun:
    if request.session:
        message = "A session needs an agent: give an agent's slug as the model, or leave metadata.session_id out."
        raise InvalidRequest(message, code="session_needs_agent", param="metadata.session_id")
    _check_model(actor, request.model, request)
    _check_limits(actor)
    run = _new_run(actor, request, id=run_id, model=request.model)
    return Begun(run, _start_at_once(actor, request, run, owner))


def _check_model(actor: Principal, name: str, request: TurnRequest) -> None:
    """Raises ModelNotFound, or InvalidRequest for what the model is known not to take."""
    target = model_resolve(actor=actor, name=name)
    asked = ChatRequest(name, request.messages, {**request.params, "tools": request.client_tools})
    models = target.models()
    if len(models) == 1:  # a route prefers those of its models that take what is asked
        refuse_unsupported(asked, capabilities_of(models[0].connection, models[0].model))


def _make_way(actor: Principal, request: TurnRequest, version: AgentVersion, open_runs: list[Run]) -> list[UUID]:
    """What becomes of the runs that the session still has; raises SessionBusy or RateLimited when this one must go."""
    way = request.when_busy
    if way == "steer" and "steering" not in _capabilities(version):
        message = f"The agent's template '{version.template}' cannot be steered: use queue, interrupt or reject."
        raise InvalidRequest(message, code="steering_unsupported", param="when_busy")
    if not open_runs:
        return []
    if way == "reject" or (request.replace_from is not None and way != "interrupt"):
        busy = f"The session's run {open_runs[0].id} is not finished"
        other = "queue" if request.replace_from is None else "interrupt"
        message = f"{busy}: wait for it, cancel it, or ask with when_busy {other}."
        raise SessionBusy(message, retry_after=1)
    if way == "interrupt":
        for run in open_runs:
            cancel_request(actor=actor, run=run)
    elif len(open_runs) > settings.SESSION_QUEUE:
        message = (
            f"{settings.SESSION_QUEUE} runs of this session wait already; SESSION_QUEUE on the server raises this."
        )
        raise RateLimited(message, code="session_queue_full", retry_after=1)
    return [run.id for run in open_runs] if way == "interrupt" else []


def _capabilities(version: AgentVersion) -> frozenset[str]:
    return registry.get(version.template, version.template_version).capabilities


def _check_limits(actor: Principal, agent: Agent | None = None, version: AgentVersion | None = None) -> None:
    """Raises RateLimited when the tenant or the agent has its fill of runs."""
    ((limit, count),) = ask(_TENANT_LIMIT, str(settings.TENANT_CONCURRENT_RUNS), str(actor.tenant_id))
    remedy = "the platform's site, or TENANT_CONCURRENT_RUNS, raises this"
    _check_limit(actor, count, limit, "The tenant", remedy)
    if agent is not None and version is not None and version.max_concurrent_runs:
        limit, remedy = version.max_concurrent_runs, "its max_concurrent_runs raises this"
        count = _running(actor, agent) if limit > CLOSE_TO_LIMIT else limit  # close to it anyhow
        _check_limit(actor, count, limit, "The agent", remedy, agent)


def _running(actor: Principal, agent: Agent | None) -> int:
    """How many runs the agent has, or the tenant."""
    runs = Run.objects.filter(tenant_id=actor.tenant_id, status=Run.Status.RUNNING)
    return (runs.filter(agent_version__agent_id=agent.id) if agent else runs).count()


def _check_limit(actor: Principal, count: int, limit: int, who: str, remedy: str, agent: Agent | None = None) -> None:
    """Counted again under a lock when it comes close, so that begins at the same time do not pass it together."""
    if count < limit - CLOSE_TO_LIMIT:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"runs of {actor.tenant_id}"])
    if _running(actor, agent) >= limit:
        raise RateLimited(
            f"{who} has reached its limit of {limit} runs at once; {remedy}.", code="too_many_runs", retry_after=1
        )


def _new_run(
    actor: Principal,
    request: TurnRequest,
    *,
    id: UUID,
    model: str,
    session: ChatSession | None = None,
    version: AgentVersion | None = None,
) -> Run:
    return Run(
        id=id,
        tenant_id=actor.tenant_id,
        session=session,
        agent_version=version,
        model=model,
        status=Run.Status.QUEUED,
        source=request.source,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        end_user=request.end_user,
        request=request.stored(),
    )


def _run_create(actor: Principal, request: TurnRequest, run: Run) -> None:
    row_insert(run)
    session = str(run.session_id) if run.session_id else None
    after = {"model": request.model, "source": request.source, "session": session}
    audit.record(actor=actor, action="run.create", target=run, after=after)
