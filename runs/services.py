"""The two transactions of a turn, and the stop between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from agents.models import AgentVersion
from agents.selectors import agent_for_chat
from core import audit
from core.errors import InvalidRequest, NotFound
from core.ids import uuid7
from core.validation import storable_text
from llm.selectors import model_resolve
from llm.targets import ModelTarget
from runs.events import Event, make_event
from runs.models import FINISHED, Run
from runs.selectors import run_get
from sessions_app.models import ChatSession
from sessions_app.selectors import history
from sessions_app.services import messages_append, session_for_turn
from tenants.permissions import authorize
from tenants.principal import Principal, system_principal
from toolsets.selectors import granted_toolsets
from toolsets.toolbox import GrantedToolset

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a client asks, whatever edge it came in by. `model` is an agent's slug or `provider_slug/model`.

    `messages`, `params` and `client_tools` are in OpenAI's shape; `session` is our id or the client's own.
    `preamble` goes before the history, for this turn only.
    """

    model: str
    messages: Messages
    source: str
    params: dict[str, Any] = field(default_factory=dict)
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    session: str | None = None
    end_user: str = ""
    preamble: Messages = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turn:
    """A begun turn: everything that its run needs, so that nothing is read while a model is awaited."""

    actor: Principal
    request: TurnRequest
    run: Run
    target: ModelTarget
    context: Messages
    session: ChatSession | None = None
    version: AgentVersion | None = None
    toolsets: Sequence[GrantedToolset] = ()


@transaction.atomic
def begin_turn(*, actor: Principal, request: TurnRequest) -> Turn:
    """Session, user messages and run row. Raises what the client did wrong; then nothing was written."""
    authorize(actor, "chat.run")
    if "/" in request.model:
        return _begin_model_call(actor, request)
    agent = agent_for_chat(actor=actor, ref=request.model)
    version = agent.version
    assert version is not None  # an active agent has one
    target = model_resolve(actor=actor, name=version.model)
    session = session_for_turn(actor=actor, ref=request.session, agent=agent, end_user=request.end_user)
    stored = history(session=session)
    new = new_messages(request.messages) if stored else request.messages
    if not new:
        message = "The last message must be new: the session has everything up to its last assistant message."
        raise InvalidRequest(message, code="no_new_message", param="messages")
    run = _run_create(actor, request, model=version.model, session=session, version=version)
    messages_append(session=session, messages=new, run_id=run.id, end_user=request.end_user)
    toolsets = granted_toolsets(actor=actor, slugs=version.toolsets)
    return Turn(
        actor,
        request,
        run,
        target,
        [*request.preamble, *with_answered_calls([*stored, *new])],
        session,
        version,
        toolsets,
    )


def with_answered_calls(messages: Messages) -> Messages:
    """Each tool call followed by its answer, as providers insist; a call or an answer without the other is left out.

    A client may go on without answering a call of its tool, or another turn may have come between the two.
    """
    answers = {index: message["tool_call_id"] for index, message in enumerate(messages) if message["role"] == "tool"}
    kept: Messages = []
    for index, message in enumerate(messages):
        calls = message.get("tool_calls") or []
        found = {call["id"]: _answer_after(index, call["id"], answers) for call in calls}
        if calls and None in found.values():
            answered = [call for call in calls if found[call["id"]] is not None]
            message = {name: value for name, value in message.items() if name != "tool_calls"}
            message |= {"tool_calls": answered} if answered else {}
        if message["role"] != "tool" and (not calls or message.get("content") or message.get("tool_calls")):
            kept.append(message)
            kept += [messages[place] for place in found.values() if place is not None]
    return kept


def _answer_after(index: int, call_id: str, answers: dict[int, str]) -> int | None:
    """The place of the first unused answer to a call, which it uses up."""
    place = next((place for place, answered in answers.items() if place > index and answered == call_id), None)
    if place is not None:
        del answers[place]
    return place


def _begin_model_call(actor: Principal, request: TurnRequest) -> Turn:
    if request.session:
        message = "A session needs an agent: give an agent's slug as the model, or leave metadata.session_id out."
        raise InvalidRequest(message, code="session_needs_agent", param="metadata.session_id")
    target = model_resolve(actor=actor, name=request.model)
    run = _run_create(actor, request, model=request.model)
    return Turn(actor, request, run, target, request.messages)


def new_messages(messages: Messages) -> Messages:
    """What follows the last assistant message; the rest is in the session already."""
    said = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[said[-1] + 1 :] if said else messages


def _run_create(
    actor: Principal,
    request: TurnRequest,
    *,
    model: str,
    session: ChatSession | None = None,
    version: AgentVersion | None = None,
) -> Run:
    run = Run.objects.create(
        id=uuid7(),
        tenant_id=actor.tenant_id,
        session=session,
        agent_version=version,
        model=model,
        source=request.source,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        end_user=request.end_user,
        started_at=timezone.now(),
    )
    after = {"model": request.model, "source": request.source, "session": str(session.id) if session else None}
    audit.record(actor=actor, action="run.create", target=run, after=after)
    return run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `messages` are complete; `partial` is the text that a stop cut short."""

    status: str
    messages: Messages
    partial: dict[str, Any] | None
    finish_reason: str = ""
    error_code: str = ""
    error_message: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_ms: int | None = None


@transaction.atomic
def finish_turn(*, turn: Turn, outcome: Outcome, events: Sequence[Event]) -> bool:
    """What was said, what it cost, the events and the run's end. False when the run had ended before.

    A run that was deleted meanwhile, with its session, has nothing left to store.
    """
    session = _locked_session(turn)  # before the run, as whoever deletes a session does
    run = Run.objects.select_for_update(of=("self",)).filter(tenant_id=turn.run.tenant_id, id=turn.run.id).first()
    if run is None:
        return True
    if run.status in FINISHED:
        return False
    _store_events(run, events)
    if session is not None:
        _store_messages(turn, run, session, outcome)
    for name in ("status", "finish_reason", "prompt_tokens", "completion_tokens", "first_token_ms"):
        setattr(run, name, getattr(outcome, name))
    run.error_code = outcome.error_code[:64]
    run.error_message = storable_text(outcome.error_message)[:500]
    run.finished_at = timezone.now()
    run.last_seq = events[-1].seq if events else 0
    run.save()
    _record_end(turn.actor, run)
    return True


def _record_end(actor: Principal, run: Run) -> None:
    tokens = {"prompt_tokens": run.prompt_tokens, "completion_tokens": run.completion_tokens}
    after = {"status": run.status, "error_code": run.error_code, **tokens}
    audit.record(actor=actor, action="run.finish", target=run, after=after)


def _locked_session(turn: Turn) -> ChatSession | None:
    sessions = ChatSession.objects.select_for_update(of=("self",)).filter(tenant_id=turn.run.tenant_id)
    return sessions.filter(id=turn.run.session_id).first() if turn.run.session_id else None


def _store_events(run: Run, events: Sequence[Event]) -> None:
    """One statement with the JSON that readers were sent: a row object for each event would cost more than the turn."""
    sent = b"[%s]" % b",".join(event.json for event in events)
    with connection.cursor() as cursor:
        cursor.execute(_STORE_EVENTS, [run.tenant_id, run.id, sent.decode()])


_STORE_EVENTS = """
    INSERT INTO run_event (id, created_at, tenant_id, run_id, seq, at, type, data)
    SELECT gen_random_uuid(), now(), %s, %s, seq, to_timestamp((event ->> 'timestamp')::bigint / 1e3),
        event ->> 'type', event
    FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS sent (event, seq)
"""


def _store_messages(turn: Turn, run: Run, session: ChatSession, outcome: Outcome) -> None:
    messages = [*outcome.messages, *([outcome.partial] if outcome.partial else [])]
    ended = {Run.Status.SUCCEEDED: "complete", Run.Status.CANCELLED: "cancelled"}.get(outcome.status, "failed")  # type: ignore[call-overload]
    left_to_client = outcome.finish_reason == "tool_calls" and ended == "complete"
    messages = [*without_open_calls(messages[:-1]), *messages[-1:]] if left_to_client else without_open_calls(messages)
    version = turn.version if run.agent_version_id else None  # None: the agent was deleted meanwhile
    messages_append(session=session, messages=messages, run_id=run.id, agent_version=version, status=ended)


def without_open_calls(messages: Messages) -> Messages:
    """What a cut run leaves as usable context: a tool call that nobody answered is taken out, its text is kept."""
    answered = {message["tool_call_id"] for message in messages if message["role"] == "tool"}
    kept = []
    for message in messages:
        calls = message.get("tool_calls") or []
        if all(call["id"] in answered for call in calls):
            kept.append(message)
        elif message.get("content"):
            kept.append({"role": message["role"], "content": message["content"]})
    return kept


@transaction.atomic
def run_cancel_request(*, actor: Principal, ref: str) -> Run:
    """Note that the run shall stop; a run that has ended stays as it ended."""
    authorize(actor, "run.cancel")
    found = run_get(actor=actor, ref=ref)
    run = Run.objects.select_for_update(of=("self",)).filter(tenant_id=actor.tenant_id, id=found.id).first()
    if run is None:
        raise NotFound("The run was deleted.")
    if run.is_finished or run.cancel_requested_at is not None:
        return run
    run.cancel_requested_at = timezone.now()
    run.save(update_fields=["cancel_requested_at"])
    audit.record(actor=actor, action="run.cancel", target=run)
    return run


@transaction.atomic
def run_end_lost(*, actor: Principal, run: Run) -> None:
    """End a cancelled run that no process answers for; if one still does, what it says later is refused."""
    authorize(actor, "run.cancel")
    _end_unheard(actor, run, Run.Status.CANCELLED, "run_cancelled", "The run was cancelled.")


@transaction.atomic
def run_expire(*, run: Run) -> None:
    """End a run that is older than any may get: its process died. Call it in the run's tenant."""
    actor = system_principal(run.tenant_id, "")
    _end_unheard(actor, run, Run.Status.EXPIRED, "run_lost", "The process that ran it ended.")


def _end_unheard(actor: Principal, run: Run, status: str, code: str, message: str) -> None:
    open_runs = Run.objects.select_for_update(of=("self",)).filter(tenant_id=run.tenant_id, id=run.id)
    found = open_runs.exclude(status__in=FINISHED).first()
    if found is None:
        return
    last = make_event(1, "RUN_ERROR", {"message": message, "code": code})
    _store_events(found, [last])
    found.status = status
    found.error_code, found.error_message = code, message
    found.finished_at = timezone.now()
    found.last_seq = last.seq
    found.save(update_fields=["status", "error_code", "error_message", "finished_at", "last_seq"])
    _record_end(actor, found)
