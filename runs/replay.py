"""Executes a stored run again, from what its models and tools answered then, and compares the two timelines.

No model and no tool is called and nothing is written; what a template does besides, it does again. Limits: answers that
were made at once are given out in the order in which they were asked for; an answer that failed and that the template
went on without is not known; nor is why an answer ended, but for the last one: the others ended with "stop".
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

from agents.executable import executable_for, run_model
from core.errors import ApplicationError, Conflict
from llm.calls import CallContext, Unpaid, calling
from llm.providers.base import Adapter, ProviderConnection
from llm.routing.features import text_pairs
from llm.targets import ModelTarget
from llm.wire import ChatRequest, Delta
from runs.events import DELTAS, Event, run_error, run_finished
from runs.exceptions import NotReplayable, RunFailed
from runs.models import Run
from runs.recording import Recording, Result, Said, comparable, timeline
from runs.selectors import event_page
from runs.services.finish import principal_of
from runs.services.turns import Messages, context_of
from runs.sink import RunSink
from runs.starting import plain
from runs.stream import RunStream
from templates_app.context import Course
from templates_app.current_step import current_step
from toolsets.events import ToolResult
from toolsets.selectors import granted_toolsets
from toolsets.toolbox import GrantedToolset, Toolbox
from usage.prices import Tokens

logger = logging.getLogger(__name__)
PATIENCE = 1.0  # seconds that an answer waits for what was told before it; after the first such wait none does


class NotRecorded(Conflict):
    """The new execution asks for what the stored one never did."""

    code = "not_recorded"


@dataclass(frozen=True, slots=True)
class Replay:
    """`unknown` is what the new execution asked for and was not recorded."""

    run: Run
    recorded: list[str]
    replayed: list[str]
    unknown: list[str]

    @property
    def is_identical(self) -> bool:
        return self.recorded == self.replayed and not self.unknown

    def difference(self) -> list[str]:
        return list(unified_diff(self.recorded, self.replayed, "recorded", "replayed", lineterm=""))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the run is asked again; read beforehand, as for any turn."""

    run: Run
    context: Messages
    toolsets: Sequence[GrantedToolset]


def run_replay(*, tenant_id: UUID, run_id: UUID) -> Replay:
    """Call it in the tenant, where no event loop runs.

    Raises NotReplayable, or EventsExpired. What the template raises is part of the new timeline, and logged.
    """
    run = Run.objects.select_related("agent_version__agent", "session").get(tenant_id=tenant_id, id=run_id)
    if not run.is_finished:
        raise NotReplayable(f"The run is not finished: its status is {run.status}.")
    events = event_page(key=run.key, after=0, limit=run.last_seq).events
    _check(run, events[-1])
    version = run.agent_version
    granted = granted_toolsets(actor=principal_of(run), slugs=version.toolsets) if version else ()
    playback = Playback(run, Recording(events))
    told = asyncio.run(_execute(_Asked(run, context_of(run, _later_runs(run)), granted), playback))
    return Replay(run, timeline(playback.recording.events), timeline(comparable(told)), playback.unknown)


def _later_runs(run: Run) -> list[UUID]:
    """Of its session: what they have replaced was still said when this one began."""
    runs = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, started_at__gt=run.started_at)
    return list(runs.values_list("id", flat=True)) if run.session_id and run.started_at else []


def _check(run: Run, last: Event) -> None:
    answered_by = (last.data.get("metadata") or {}).get("answered_by")
    if answered_by:
        raise NotReplayable(f"The run {answered_by} heard its messages and answered them: replay that one.")
    if run.started_at is None:
        raise NotReplayable("The run ended before it began: there is nothing to replay.")
    if run.session_id is not None and run.agent_version_id is None:
        raise NotReplayable("The agent version that the run used is gone, and its configuration with it.")


class Playback(Course):
    """The recorded answers as the new execution asks for them, and what it tells. It is the log of its own stream."""

    size = 0
    is_full = False

    def __init__(self, run: Run, recording: Recording) -> None:
        self.recording = recording
        self.unknown: list[str] = []
        self.stream = RunStream(run.key, fence=0, stored=0, writer=self, on_lost=lambda: None)
        self.sink = RunSink(self.stream)
        self._answers = list(recording.answers)
        self._heard = list(recording.heard)
        self._news = asyncio.Event()
        self._in_step = True

    def wake(self, stream: RunStream) -> None:
        self._news.set()

    async def room(self, stream: RunStream) -> None:
        """There is always room."""

    @property
    def place(self) -> int:
        return sum(event.type not in DELTAS for event in self.stream.take())

    async def reach(self, place: int) -> None:
        """Returns once as much was told as before the recorded answer, or when that seems not to come."""
        while self._in_step and self.place < place:
            self._news.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._news.wait()
            except TimeoutError:
                self._in_step = False

    async def answer(self) -> Said:
        """The next one of the step that asks: steps that run at once may ask in another order."""
        step = current_step()
        said = next((each for each in self._answers if each.step == step), None)
        if said is None:
            await self.fail("The model was asked once more than was recorded.")
        self._answers.remove(said)
        return said

    async def result(self, call_id: str, name: str) -> Result:
        results = self.recording.results.get(call_id) or self.recording.results.get("")
        if not results:
            await self.fail(f"The tool '{name}' was called, and no answer of it is recorded.")
        result = results.pop(0)
        await self.reach(result.place)
        return result

    async def heard(self) -> Messages:
        """What users said meanwhile, when it was heard then."""
        found: Messages = []
        while self._heard and self._heard[0][0] <= self.place:
            value = self._heard.pop(0)[1]
            await self.sink.heard(value["run_id"], value["messages"])
            found += plain(value["messages"])
        return found

    def took(self, step: str, ms: int) -> int:
        return self.recording.took.get(step, ms)

    async def turn(self, told: str, step: str) -> None:
        places = self.recording.steps.get((told, step))
        await self.reach(places.pop(0) if places else self.recording.total + 1)

    async def fail(self, message: str) -> NoReturn:
        """As the recorded run failed at what was asked last, when it was stopped from outside."""
        if self.recording.stopped:
            await self.reach(self.recording.total)
            raise self.recording.error
        self.unknown.append(message)
        raise NotRecorded(message)


class RecordedAdapter(Adapter):
    """Gives the next recorded answer, whatever is asked."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        said = await self._playback.answer()
        for place, delta in said.deltas():
            await self._playback.reach(place)
            yield delta
        if said.failed is not None:
            await self._playback.reach(said.failed.place)
            raise said.failed.error
        if said.end is None and self._playback.recording.stopped:
            await self._playback.fail("The answer was cut.")
        await self._playback.reach(self._playback.recording.total if said.end is None else said.end)
        yield Delta(finish_reason=said.finish_reason)


@dataclass(frozen=True, slots=True)
class RecordedTarget(ModelTarget):
    """Opens no provider, whatever the tenant has under its name."""

    adapter: Adapter

    def open(self) -> Adapter:
        return self.adapter


class RecordedToolbox(Toolbox):
    """Tells the model of the granted tools, and calls none."""

    def __init__(self, *args: Any, playback: Playback, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._playback = playback

    async def call(self, tool_call: dict[str, Any]) -> dict[str, Any]:
        call_id, name = str(tool_call.get("id") or ""), str((tool_call.get("function") or {}).get("name") or "")
        result = await self._playback.result(call_id, name)
        await self._emit(ToolResult(call_id, name, result.content, result.is_error, 0))
        return {"role": "tool", "tool_call_id": call_id, "content": result.content}

    async def answer(self, tool_call: dict[str, Any], content: str, *, is_error: bool = False) -> dict[str, Any]:
        return await self.call(tool_call)  # recorded as well


async def _execute(asked: _Asked, playback: Playback) -> list[Event]:
    """The events of the new execution; as the runner makes them, but for the database."""
    run, stream, sink = asked.run, playback.stream, playback.sink
    stream.publish("RUN_STARTED", **playback.recording.events[0].fields)  # what it was asked is no answer of its own
    try:
        with calling(CallContext(run.tenant_id, Unpaid())):
            await _play(asked, playback)
    except ApplicationError as error:
        last = "RUN_ERROR", run_error(error)
    except Exception:
        logger.exception("The replay of a run failed", extra={"run_id": str(run.id)})
        last = "RUN_ERROR", run_error(RunFailed())
    else:
        last = "RUN_FINISHED", _finished(run, sink)
    sink.close()
    stream.publish(last[0], **last[1])
    return stream.take()


def _finished(run: Run, sink: RunSink) -> dict[str, Any]:
    reason = sink.finish_reason or "stop"
    return run_finished(run.thread_id, str(run.id), finish_reason=reason, model=run.model, tokens=Tokens())


async def _play(asked: _Asked, playback: Playback) -> None:
    run, request = asked.run, asked.run.request
    slug, _, model = run.model.partition("/")
    target = RecordedTarget(ProviderConnection(slug, kind="recorded"), model, RecordedAdapter(playback))
    params, client_tools = request["params"], request["client_tools"]
    if run.agent_version is None:
        params = {**params, "tools": client_tools} if client_tools else params
        await run_model(target=target, messages=asked.context, params=params, report=playback.sink)
        return
    produced = executable_for(run.agent_version).run(
        report=playback.sink,
        messages=asked.context,
        params=params,
        client_tools=client_tools,
        target=target,
        toolsets=asked.toolsets,
        run_id=run.id,
        session_id=run.session_id,
        heard=playback.heard,
        metadata=text_pairs(request.get("metadata", {})),
        course=playback,
        make_toolbox=partial(RecordedToolbox, playback=playback),
    )
    async with aclosing(produced) as told:
        async for event in told:
            await playback.sink.template_event(event)
