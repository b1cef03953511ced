"""A turn: what a client asked, and everything that its run needs."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from agents.models import AgentVersion
from core.errors import InvalidRequest, NotFound
from llm.metering import Held
from llm.selectors.providers import model_resolve
from llm.targets import Target
from runs.events import Event
from runs.models import Run
from runs.services.pay import hold_first
from sessions_app.models import ChatSession
from sessions_app.selectors.sessions import history
from tenants.principal import Principal
from toolsets.selectors import granted_toolsets
from toolsets.toolbox import GrantedToolset

Messages = list[dict[str, Any]]
MAX_KEY = 255  # characters of an Idempotency-Key
KEY = r"^[ -~]+$"  # printable ASCII, which every header can carry


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a client asks, whatever edge it came in by. `model` is an agent's slug or `provider_slug/model`.

    `messages`, `params` and `client_tools` are in OpenAI's shape; `session` is our id or the client's own.
    `preamble` goes before the history, for this turn only. `when_busy`, a value of AgentVersion.WhenBusy, says what
    shall happen while the session has another run; None leaves it to the agent. `metadata` is the caller's own, for the
    rules of routes. `idempotency_key` names this turn among its repetitions. `replace_from`, a message's seq or id, is
    where the conversation goes on differently: that message and all after it are no longer part of it. `ask_again`, a
    message's id, says so of a question: of its answer only, where it is what it was, and of nothing where it is new.
    """

    model: str
    messages: Messages
    source: str
    params: dict[str, Any] = field(default_factory=dict)
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    session: str | None = None
    end_user: str = ""
    preamble: Messages = field(default_factory=list)
    when_busy: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    replace_from: str | int | None = None
    ask_again: str | None = None

    def stored(self) -> dict[str, Any]:
        """As the run keeps it, for another attempt."""
        kept = {name: getattr(self, name) for name in _STORED}
        replacing = {name: getattr(self, name) for name in _REPLACING}
        return {**kept, **{name: ref for name, ref in replacing.items() if ref is not None}}


_REPLACING = ("replace_from", "ask_again")
_NOT_STORED = ("source", "session", "end_user", *_REPLACING)
_STORED = [kept.name for kept in fields(TurnRequest) if kept.name not in _NOT_STORED]


def checked_key(key: str | None) -> str | None:
    """A client's Idempotency-Key, of a header or a frame; raises InvalidRequest for one that cannot be kept."""
    if key is not None and not (len(key) <= MAX_KEY and re.fullmatch(KEY, key)):
        message = f"An Idempotency-Key has 1 to {MAX_KEY} characters, of printable ASCII."
        raise InvalidRequest(message, param="Idempotency-Key")
    return key


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that this process runs: everything that is read beforehand, since no connection is held meanwhile.

    `fence` is this process's right to write the run's events, and `stored` the seq of the last one. `told` are the
    events that are stored and that nobody was shown, `kept` all that still count of the run so far; `resume` is the
    checkpoint of the agent's state that goes with them. `held` is what the first call of a model may cost, `answers`
    what the model said in an earlier attempt, which counts again since it called tools.
    """

    run: Run
    target: Target
    context: Messages
    fence: int
    stored: int
    version: AgentVersion | None = None
    toolsets: Sequence[GrantedToolset] = ()
    held: Held | None = None
    told: Sequence[Event] = ()
    kept: Sequence[Event] = ()
    resume: str | None = None
    answers: Sequence[dict[str, Any]] = ()

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.run.request["params"]
        return params

    @property
    def client_tools(self) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = self.run.request["client_tools"]
        return tools


def turn_of(*, actor: Principal, run: Run, fence: int, stored: int, **rest: Any) -> Turn:
    """Reads what the run needs, and holds of budgets what its first call may cost.

    Raises ApplicationError when its agent or its model is no longer there, or a budget has no room.
    """
    version = run.agent_version
    if version is None and run.session_id is not None:
        raise NotFound("The agent was deleted before the run could begin.", code="agent_deleted")
    target = model_resolve(actor=actor, name=run.model)
    toolsets: Sequence[GrantedToolset] = ()
    if version is not None:
        slug = version.agent.slug
        toolsets = granted_toolsets(actor=actor, slugs=version.toolsets, person=run.person, agent=slug)
    context = context_of(run)
    held = hold_first(run, fence=fence, target=target, context=context)
    return Turn(run, target, context, fence, stored, version, toolsets, held, **rest)


def context_of(run: Run, not_yet: Collection[UUID] = ()) -> Messages:
    """What the model sees: the session as it was when the run was started. `not_yet` are runs that have replaced
    messages since then.
    """
    if run.session is None:
        messages: Messages = run.request["messages"]
        return messages
    stored = history(session=run.session, until=run.context_seq, not_yet=not_yet)
    return [*run.request["preamble"], *with_answered_calls(stored)]


def new_messages(messages: Messages) -> Messages:
    """What follows the last assistant message; the rest is in the session already."""
    said = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[said[-1] + 1 :] if said else messages


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


def locked_session(run: Run) -> ChatSession | None:
    """The run's session, locked until the transaction ends: before the run, as whoever deletes a session does."""
    if run.session_id is None:
        return None
    sessions = ChatSession.objects.select_for_update(of=("self",)).filter(tenant_id=run.tenant_id)
    return sessions.filter(id=run.session_id).first()
