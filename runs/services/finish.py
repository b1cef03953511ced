"""How a run ends: once, with its last events, its messages and its status in one transaction."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from core import audit
from core.rows import row_update
from core.validation import storable_text
from llm.metering import Closed
from runs import starting
from runs.events import Event, make_event
from runs.models import FINISHED, Run, RunEvent
from runs.services.approvals import approvals_withdraw
from runs.services.lease import Ended, lease_end, lease_make_due, lease_release
from runs.services.pay import tokens_used
from runs.services.turns import Messages, locked_session, new_messages, without_open_calls
from runs.starting import signed
from sessions_app.models import ChatSession
from sessions_app.services.sessions import messages_append
from sessions_app.services.titles import title_when_answered
from tenants.principal import Principal
from usage.records import CallRecord
from usage.services.spending import release, settle

_COUNTED = ("status", "finish_reason", "prompt_tokens", "completion_tokens", "first_token_ms")
_ENDED = (*_COUNTED, "error_code", "error_message", "finished_at", "last_seq")


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


class Bill(NamedTuple):
    """The calls that have ended and are not stored, and how to make their records; `capped`: something was held."""

    records: Callable[[Sequence[Closed]], list[CallRecord]]
    closed: Sequence[Closed]
    capped: bool


class Finished(NamedTuple):
    """`watched`: another process follows the run. `next_run` is one of its session whose turn it is now.

    The runs `with_it` have ended with it, since it has heard their messages.
    """

    watched: bool
    next_run: UUID | None
    with_it: Sequence[UUID] = ()


@transaction.atomic
def finish_turn(
    *, run: Run, fence: int, outcome: Outcome, events: Sequence[Event], bill: Bill | None = None
) -> Finished | None:
    """Store what was said, the last `events`, the run's end and what it used. Safe to repeat when the commit's answer
    was lost. `bill` is of the process that ran it.

    None when the run is no longer this process's, its log does not end where `events` begin, or it was deleted
    meanwhile with its session: then nothing is stored.
    """
    session = locked_session(run)
    ended = lease_end(run, fence=fence, after=events[0].seq - 1, events=events)
    if ended is None:
        return None
    if ended.watched is None:
        return Finished(True, None) if _is_stored(run, ended.status, fence, events[-1]) else None
    found = _as_found(run, ended)
    if found.status == Run.Status.WAITING or fence > 1:  # another attempt need not ask again
        approvals_withdraw(found)
    if session is not None:
        _store_messages(found, session, outcome)
    _pay(found, bill)
    if fence != 1:
        outcome = _of_all_attempts(found, outcome)
    _store_outcome(found, outcome, events[-1].seq)
    audit.record(actor=principal_of(found), action="run.finish", target=found, after=_audited(found))
    others = _open_in_session(found)
    heard = _heard(found, others)
    for other in heard:
        _end_with(found, other, outcome, events[-1])
    following = _make_next_due([other for other in others if other not in heard])
    return Finished(ended.watched, following, [other.id for other in heard])


@transaction.atomic
def turn_give_up(*, run: Run, fence: int) -> None:
    """Any process may have the run from now on, which then holds for its own calls."""
    lease_release(run_id=run.id, fence=fence)
    release(tenant_id=run.tenant_id, run_id=run.id)


def _pay(run: Run, bill: Bill | None) -> None:
    """Nothing is held for the run any more."""
    calls = bill.records(bill.closed) if bill else ()
    settle(tenant_id=run.tenant_id, calls=calls, run_id=run.id, held=bill is None or bill.capped)


def _of_all_attempts(run: Run, outcome: Outcome) -> Outcome:
    prompt, completion = tokens_used(run)
    return replace(outcome, prompt_tokens=prompt, completion_tokens=completion)


def _as_found(run: Run, ended: Ended) -> Run:
    """With what others may have changed of it."""
    found = copy(run)
    found.status = ended.status
    if ended.agent_version_id is None:
        found.agent_version = None
    return found


def _end_with(run: Run, other: Run, outcome: Outcome, last: Event) -> None:
    """A run whose messages another has heard ends as that one did, and says in whose events the answer is."""
    said = signed(other, new_messages(other.request["messages"]))
    started = make_event(1, "RUN_STARTED", starting.started(other, said))
    metadata = {**(last.data.get("metadata") or {}), "answered_by": str(run.id)}
    ended = make_event(2, last.type, {**_unpaid(last), "runId": str(other.id), "metadata": metadata})
    without = replace(outcome, messages=[], partial=None, prompt_tokens=0, completion_tokens=0, first_token_ms=None)
    finish_turn(run=other, fence=0, outcome=without, events=[started, ended])


def _unpaid(last: Event) -> dict[str, Any]:
    """What a terminal event says, without the tokens: they are counted once."""
    fields = last.fields
    if "usage" in fields:
        none = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
        fields["usage"] = [{"model": used["model"], **none} for used in fields["usage"]]
    return fields


def _heard(run: Run, others: Sequence[Run]) -> list[Run]:
    """The runs whose messages it has told of; one that it marked and then did not hear has its own turn."""
    if not any(other.request.get("heard_by") == str(run.id) for other in others):
        return []
    events = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day, type="CUSTOM")
    told = set(events.filter(data__name="heard").values_list("data__value__run_id", flat=True))
    return [other for other in others if other.request.get("heard_by") == str(run.id) and str(other.id) in told]


def principal_of(run: Run) -> Principal:
    """Who asked for the run. What it needs was authorised when it began."""
    return Principal(run.tenant_id, "", run.actor_kind, run.actor_id, run.actor_label, "owner")


def _open_in_session(run: Run) -> list[Run]:
    """The other runs of its session that are not finished, in the order of their beginnings."""
    if run.session_id is None:
        return []
    others = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, finished_at=None)
    return list(others.exclude(id=run.id).select_related("session").order_by("created_at", "id"))


def _make_next_due(others: Sequence[Run]) -> UUID | None:
    """The run that waits longest may be claimed from now on, unless another one of the session is under way."""
    if not others or any(other.status != Run.Status.QUEUED for other in others):
        return None
    lease_make_due(others[0].id)
    return others[0].id


def _is_stored(run: Run, status: str, fence: int, last: Event) -> bool:
    events = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day, seq=last.seq, fence=fence)
    return status in FINISHED and events.exists()


def _store_outcome(run: Run, outcome: Outcome, last_seq: int) -> None:
    for name in _COUNTED:
        setattr(run, name, getattr(outcome, name))
    run.error_code = outcome.error_code[:64]
    run.error_message = storable_text(outcome.error_message)[:500]
    run.finished_at = timezone.now()
    run.last_seq = last_seq
    row_update(run, _ENDED)


def _audited(run: Run) -> dict[str, Any]:
    tokens = {"prompt_tokens": run.prompt_tokens, "completion_tokens": run.completion_tokens}
    return {"status": run.status, "error_code": run.error_code, **tokens}


def _store_messages(run: Run, session: ChatSession, outcome: Outcome) -> None:
    messages = [*outcome.messages, *([outcome.partial] if outcome.partial else [])]
    ended = {Run.Status.SUCCEEDED: "complete", Run.Status.CANCELLED: "cancelled"}.get(outcome.status, "failed")  # type: ignore[call-overload]
    left_to_client = outcome.finish_reason == "tool_calls" and ended == "complete"
    messages = [*without_open_calls(messages[:-1]), *messages[-1:]] if left_to_client else without_open_calls(messages)
    version = run.agent_version  # None: the agent was deleted meanwhile
    stored = messages_append(
        session=session,
        messages=messages,
        run_id=run.id,
        agent_version=version,
        end_user=run.end_user,
        status=ended,
    )
    title_when_answered(session, stored, actor=principal_of(run))
