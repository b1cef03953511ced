"""A run's events as the AI SDK's UI message stream: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol

An answer is one UI message. Its id is the run's, unless it goes on with a message that the client has. Each answer of a
model is a step of it; the tools of a step are `providerExecuted` and dynamic where the server runs them.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import orjson

from core.errors import ApplicationError
from core.request_context import current_request
from runs import sse
from runs.events import DELTAS, PAUSED, Event, error_of, restart_of
from runs.exceptions import RunCancelled
from runs.follow import all_events, follow
from runs.models import Run
from runs.openai_chat import AnswerChanged, run_gone
from runs.process import process
from runs.services.turns import new_messages
from runs.transcript import step_of, still_valid

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool-calls", "content_filter": "content-filter"}
_REASONING = "-reasoning"  # what the id of a message's reasoning has besides
_INTERNAL = frozenset({"checkpoint", "empty_answer"})
Chunk = dict[str, Any]


class UiStream:
    """What the client was told so far. `ended` once the run has ended, or waits for a person: the stream ends there."""

    def __init__(self, run: Run, *, message_id: str | None = None) -> None:
        self.run = run
        self.message_id = message_id or str(run.id)
        self.ended = False
        self._client_tools = {tool["function"]["name"] for tool in run.request["client_tools"]}
        self._open: set[str] = set()  # ids of texts and of calls
        self._step = ""  # the message of the model's answer that is the open step
        self._names: dict[str, str] = {}  # of tools, by call
        self._lengths: dict[str, int] = {}  # characters that have come of a text, or of a call's arguments
        self._pieces: dict[str, list[str]] = {}  # of the arguments of a call, and of a refusal
        self._nested: list[str] = []  # calls that exist only because a person is asked about them
        self._last = 0  # seq of the last event that told the client something

    def start(self) -> Chunk:
        return {"type": "start", "messageId": self.message_id, "messageMetadata": self._about()}

    def _about(self) -> Chunk:
        version = self.run.agent_version
        about = {"run_id": str(self.run.id), "session_id": self.run.thread_id}
        return {**about, "agent": version.agent.slug} if version else about

    def chunks(self, event: Event) -> list[Chunk]:
        """What an event adds. Raises the run's error, and AnswerChanged when what was told no longer counts."""
        keep = restart_of(event)
        if keep is not None:
            if keep < self._last:
                raise AnswerChanged("The run was started again, and its answer with it: read the stream anew.")
            return []
        found = list(self._told(event))
        if found:
            self._last = event.seq
        return found

    def _told(self, event: Event) -> Iterator[Chunk]:
        data = event.data
        match event.type:
            case "RUN_STARTED":
                yield from self._answered()
            case "RUN_FINISHED":
                yield from self._finished(event)
            case "RUN_ERROR":
                yield from self._failed(error_of(event))
            case "TEXT_MESSAGE_START":
                yield from self._begin(data["messageId"], data)
            case "REASONING_START":
                yield from self._begin(data["messageId"], data)
            case "TOOL_CALL_START":
                yield from self._call(data)
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" | "TOOL_CALL_ARGS":
                yield from self._piece(data[DELTAS[event.type]], data["delta"])
            case "TEXT_MESSAGE_END" | "REASONING_END":
                yield from self._end(data["messageId"])
            case "TOOL_CALL_END":
                yield from self._called(data["toolCallId"])
            case "TOOL_CALL_RESULT":
                yield from self._result(data)
            case "STEP_STARTED" | "STEP_FINISHED" if data.get("metadata") != PAUSED:
                state = "started" if event.type == "STEP_STARTED" else "finished"
                yield _step(data["stepName"], state, **(data.get("metadata") or {}))
            case "CUSTOM":
                yield from self._custom(data)

    def _enter(self, message_id: str) -> Iterator[Chunk]:
        """Another answer of a model is another step; one that is said beside another shares its step."""
        if self._open or message_id == self._step:
            return
        yield from self._leave()
        self._step = message_id
        yield {"type": "start-step"}

    def _leave(self) -> Iterator[Chunk]:
        if self._step:
            self._step = ""
            yield {"type": "finish-step"}

    def _begin(self, id: str, data: Chunk) -> Iterator[Chunk]:
        yield from self._enter(id.removesuffix(_REASONING))
        self._open.add(id)
        about = {"providerMetadata": {"agentsite": {"step": step_of(data)}}} if step_of(data) else {}
        yield {"type": f"{_kind(id)}-start", "id": id, **about}

    def _piece(self, id: str, delta: str) -> Iterator[Chunk]:
        if not delta:
            return
        self._lengths[id] = self._lengths.get(id, 0) + len(delta)
        if id in self._names:
            self._pieces[id].append(delta)
            yield {"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": delta}
        else:
            yield {"type": f"{_kind(id)}-delta", "id": id, "delta": delta}

    def _end(self, id: str) -> Iterator[Chunk]:
        if id in self._open:
            self._open.discard(id)
            yield {"type": f"{_kind(id)}-end", "id": id}

    def _call(self, data: Chunk) -> Iterator[Chunk]:
        id = data["toolCallId"]
        yield from self._enter(data.get("parentMessageId") or id)
        self._open.add(id)
        self._names[id], self._pieces[id] = data["toolCallName"], []
        yield {"type": "tool-input-start", **self._tool(id)}

    def _tool(self, id: str) -> Chunk:
        name = self._names[id]
        ours = {} if name in self._client_tools else {"providerExecuted": True, "dynamic": True}
        return {"toolCallId": id, "toolName": name, **ours}

    def _called(self, id: str) -> Iterator[Chunk]:
        self._open.discard(id)
        text = "".join(self._pieces.pop(id)) or "{}"
        try:
            given = orjson.loads(text)
        except orjson.JSONDecodeError:
            wrong = "The arguments of the call are no JSON."
            yield {"type": "tool-input-error", **self._tool(id), "input": text, "errorText": wrong}
            return
        yield {"type": "tool-input-available", **self._tool(id), "input": given}

    def _result(self, data: Chunk) -> Iterator[Chunk]:
        """Of a call that nobody told of, the call as well: the client knows no result without one."""
        id = data["toolCallId"]
        if id not in self._names:
            self._names[id], self._pieces[id] = "tool", []
            yield from self._called(id)
        if (data.get("metadata") or {}).get("error"):
            yield {"type": "tool-output-error", "toolCallId": id, "errorText": data["content"]}
        else:
            yield _output(id, data["content"])

    def _custom(self, data: Chunk) -> Iterator[Chunk]:
        name, value = data["name"], data["value"]
        if name == "message_snapshot":
            yield from self._snapshot(value)
        elif name == "refusal":
            id = f"{data['metadata']['messageId']}-refusal"
            self._pieces.setdefault(id, []).append(value)
            yield {"type": "data-refusal", "id": id, "data": {"text": "".join(self._pieces[id])}}
        elif name == "step_failed":
            failed = {field: value[field] for field in ("attempt", "code", "message", "again")}
            yield _step(value["step"], "failed", **failed)
        elif name not in _INTERNAL:
            yield {"type": f"data-{name}", "data": value}

    def _snapshot(self, value: Chunk) -> Iterator[Chunk]:
        """What the client lacks of a text that was merged meanwhile."""
        id = value[DELTAS[value["type"]]]
        known = self._lengths.get(id, 0) - value["start"]
        yield from self._piece(id, value["text"][known:])

    def _asked(self, interrupt: Chunk) -> Iterator[Chunk]:
        """A call of an agent that this one asked is none of its own: it becomes one, so that it can be answered."""
        about = interrupt["metadata"]
        id = interrupt.get("toolCallId") or interrupt["id"]
        if id not in self._names:
            self._names[id], self._pieces[id] = about["tool"], [orjson.dumps(about["arguments"]).decode()]
            self._nested.append(id)
            yield from self._enter(id)
            yield from self._called(id)
        descriptor = {"message": interrupt["message"], "expires_at": interrupt["expiresAt"], **about}
        request = {"type": "tool-approval-request", "approvalId": interrupt["id"], "toolCallId": id}
        yield {**request, "approvalDescriptor": descriptor}

    def _answered(self) -> Iterator[Chunk]:
        """The run goes on. What became of a call of an agent that this one asked is known only to that one."""
        for id in self._nested:
            yield {"type": "tool-output-available", "toolCallId": id, "output": "decided"}
        self._nested.clear()

    def _finished(self, event: Event) -> Iterator[Chunk]:
        self.ended, data = True, event.data
        if event.is_interrupt:
            for interrupt in data["outcome"]["interrupts"]:
                yield from self._asked(interrupt)
            yield from self._leave()
            yield {"type": "finish", "finishReason": "tool-calls"}
            return
        yield from self._leave()
        metadata = {"usage": data["usage"][0]}
        if heard := (data.get("metadata") or {}).get("answered_by"):
            metadata["answered_by"] = heard
        reason = _FINISH.get(data["result"]["finishReason"], "other")
        yield {"type": "finish", "finishReason": reason, "messageMetadata": metadata}

    def _failed(self, error: ApplicationError) -> Iterator[Chunk]:
        """A failure has no `finish`; that somebody stopped the run is none."""
        self.ended = True
        if error.code == RunCancelled.code:
            yield from self._leave()
            yield {"type": "abort", "reason": error.message}
        else:
            raise error

    def failure(self, error: ApplicationError) -> Iterator[Chunk]:
        """The client gets a text only; the metadata of its message say which error it was."""
        yield from self._leave()
        told = error.body(current_request().request_id)["error"]
        yield {"type": "message-metadata", "messageMetadata": {"error": told}}
        yield {"type": "error", "errorText": error.message}


def _kind(id: str) -> str:
    return "reasoning" if id.endswith(_REASONING) else "text"


def _step(name: str, state: str, **about: Any) -> Chunk:
    """The newest state of an agent's step takes the place of the one before."""
    return {"type": "data-step", "id": name, "data": {"name": name, "state": state, **about}}


def _value(text: str) -> Any:
    """What a tool answered, as JSON where it is an object or a list."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


async def frames(
    told: UiStream, events: AsyncGenerator[Event | None, None], earlier: Sequence[Run] = ()
) -> AsyncGenerator[bytes, None]:
    """The SSE frames of a message. A failure is an `error` part, and so is a server that stops before the run."""
    yield _frame(told.start())
    with (await process()).telling():
        try:
            for run, following in pairwise([*earlier, told.run]):
                for chunk in await _before(run, following):
                    yield _frame(chunk)
            async with aclosing(events):
                async for event in events:
                    if event is None:
                        yield sse.HEARTBEAT
                        continue
                    for chunk in told.chunks(event):
                        yield _frame(chunk)
                    if told.ended:
                        break
            if not told.ended:
                raise run_gone()
        except ApplicationError as error:
            for chunk in told.failure(error):
                yield _frame(chunk)
        yield sse.frame(b"[DONE]")


async def _before(run: Run, following: Run) -> list[Chunk]:
    """What a run said that ended with calls of the client's tools, and the results that the following one brought."""
    told, found = UiStream(run), list[Chunk]()
    for event in still_valid([event async for event in all_events(run.key)]):
        if event.type != "RUN_ERROR":
            found += told.chunks(event)
    results = [said for said in new_messages(following.request["messages"]) if said["role"] == "tool"]
    found += [_output(result["tool_call_id"], result["content"]) for result in results]
    return [chunk for chunk in found if chunk["type"] not in ("finish", "tool-approval-request")]


def _output(call_id: str, content: str) -> Chunk:
    return {"type": "tool-output-available", "toolCallId": call_id, "output": _value(content)}


def _frame(chunk: Chunk) -> bytes:
    return sse.frame(orjson.dumps(chunk))


async def replayed(run: Run, *, idle: float) -> AsyncGenerator[Event | None, None]:
    """All that counts of a run, from its first event, then what comes: what a later attempt has replaced is left out of
    what is stored, and so is every question to a person but the one for which the run waits now.
    """
    stored = still_valid([event async for event in all_events(run.key)])
    last = stored[-1].seq if stored else 0
    for event in stored:
        if event.seq == last or not event.is_interrupt:
            yield event
    if not (stored and stored[-1].is_terminal):
        async with aclosing(follow(run.key, after=last, idle=idle)) as events:
            async for told in events:
                yield told


async def known(told: UiStream, until: int) -> None:
    """The client has what the run said up to the seq `until`."""
    for event in still_valid([event async for event in all_events(told.run.key) if event.seq <= until]):
        told.chunks(event)
    told.ended = False
