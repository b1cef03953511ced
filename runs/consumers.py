"""The `agui.v1` socket of a session: frames in, AG-UI events out; every socket of a session sees the same runs."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, aclosing, suppress
from contextvars import copy_context
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.utils import timezone
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

from core.aio import in_db_thread
from core.api import parse_json, to_application_error
from core.errors import ApplicationError, InvalidRequest, NotFound, NotPermitted, RateLimited
from core.request_context import set_current_request
from core.tenant import enter_tenant
from core.validation import parse
from runs import agui, runner
from runs.events import socket_json
from runs.exceptions import RunMoved
from runs.follow import follow
from runs.process import Process, awaited_topic, process, topic_of
from runs.selectors import Found, run_get, runs_to_follow
from runs.services.turns import checked_key
from runs.socket_auth import SUBPROTOCOL, authenticate, request_facts
from runs.socket_line import Line
from runs.stream import RunKey
from sessions_app.models import ChatSession, Participant
from sessions_app.selectors.places import Place, place_of
from sessions_app.selectors.sessions import session_find, session_or_new
from tenants.permissions import authorize, is_allowed, is_confined
from tenants.principal import Principal

logger = logging.getLogger(__name__)
UNAUTHENTICATED, FORBIDDEN = 4401, 4403
SERVICE_RESTART, TRY_AGAIN_LATER = 1012, 1013
IN_ORDER_SECONDS = 5  # for which a run waits until those before it are shown to their ends
MAX_ASKED = 64  # runs that one socket's `since` and `cancel` frames may have under way


class RunFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    input: dict[str, Any]
    agent: StrictStr | None = None
    idempotency_key: StrictStr | None = None


class SinceFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    run_id: StrictStr
    seq: StrictInt


class CancelFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    run_id: StrictStr


class ResumeFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    run_id: StrictStr
    resume: list[Any]


class TypingFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr


class Shown:
    """A run of which the client is sent what follows the seq `after`, and was sent what there is up to `sent`."""

    task: asyncio.Task[None]

    def __init__(self, after: int, asked: bool) -> None:
        self.after = self.sent = after
        self.asked = asked

    def is_before(self, other: "Shown") -> bool:
        return self is not other and self.sent > 0 and not self.asked and not self.task.done()


class SessionConsumer(AsyncWebsocketConsumer):
    actor: Principal
    _presenting: asyncio.Task[None] | None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Whatever ends it, nothing of the socket stays: `disconnect` is not called when a handler fails."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: set[asyncio.Task[None]] = set()  # those of them that a frame began
        self._following: dict[UUID, Shown | None] = {}  # None: it has ended
        self._joined = ExitStack()
        self._place: Place | None = None  # None until somebody has made the session
        self._role = ""  # in the session, once it is known
        self._presence, self._presenting = "", None  # the list to be sent, and what sends it
        line = Line(receive, send)
        try:
            await super().__call__(scope, line.receive, line.send)
        finally:
            await self._end()

    async def connect(self) -> None:
        self.ref: str = self.scope["url_route"]["kwargs"]["ref"]
        facts = request_facts(self.scope)
        set_current_request(facts.request_id, facts.ip)
        structlog.contextvars.bind_contextvars(request_id=facts.request_id)
        self._joined_at = timezone.now()
        try:
            actor = await in_db_thread(authenticate, self.scope)
            enter_tenant(actor.tenant_id)
            session, place = await in_db_thread(_found, actor, self.ref)
            here = await process()
            here.sockets.refuse_more(actor)
        except ApplicationError as error:
            await self._refuse(error)
            return
        self.actor = actor
        self._context = copy_context()
        self._joined.enter_context(here.sockets.watched(self.actor, self._revoked))
        await self.accept(subprotocol=SUBPROTOCOL)
        self._join(here, session, place)

    async def _refuse(self, error: ApplicationError) -> None:
        """Accepted first, so that the browser learns the close code."""
        offered = SUBPROTOCOL in (self.scope.get("subprotocols") or [])
        await self.accept(subprotocol=SUBPROTOCOL if offered else None)
        await self._close(error)

    async def _close(self, error: ApplicationError) -> None:
        match error:
            case NotPermitted() | NotFound():
                code = FORBIDDEN
            case RateLimited():
                code = TRY_AGAIN_LATER
            case _:
                code = UNAUTHENTICATED
        await self.close(code=code, reason=error.code)

    async def _end(self) -> None:
        self._joined.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "actor"):
            return
        frame = None
        try:
            frame = parse_json((text_data or "").encode() if bytes_data is None else bytes_data)
            await self._handle(frame)
        except Exception as fault:
            await self.send(text_data=self._error_frame(fault, **_key(frame)))

    async def _handle(self, frame: Any) -> None:
        match frame.get("type") if isinstance(frame, dict) else None:
            case "ping":
                await self.send(text_data='{"type":"pong"}')
            case "run":
                await self._run(parse(RunFrame, frame))
            case "since" | "cancel" | "resume" if len(self._asked) >= MAX_ASKED:
                message = f"{MAX_ASKED} frames of this socket are under way: wait for one to end."
                raise RateLimited(message, code="socket_busy")
            case "since":
                since = parse(SinceFrame, frame)
                await self._about(since.run_id, partial(self._since, since))
            case "cancel":
                ref = parse(CancelFrame, frame).run_id
                stop = partial(runner.stop, actor=self.actor, ref=ref)  # it waits until the run has stopped
                self._spawn(self._about(ref, stop), asked=True)
            case "resume":
                resume = parse(ResumeFrame, frame)
                decisions = agui.decisions({"resume": resume.resume})
                work = partial(runner.resume, actor=self.actor, ref=resume.run_id, decisions=decisions)
                self._spawn(self._about(resume.run_id, work), asked=True)
            case "typing":
                parse(TypingFrame, frame)
                self._refuse_viewers()
                (await process()).presence.typing(self._topic, self.actor)
            case other:
                message = "type must be run, since, cancel, resume, typing or ping."
                raise InvalidRequest(message, code="unknown_frame", param="type" if other is not None else None)

    async def _run(self, frame: RunFrame) -> None:
        agent = frame.agent if frame.agent else await in_db_thread(self._session_agent)
        key = checked_key(frame.idempotency_key)
        asked = agui.turn_request(frame.input, agent=agent, source="socket", session=self.ref, idempotency_key=key)
        run = await runner.begin(actor=self.actor, request=asked)
        if run.is_finished:  # a repetition's; a new run is not, as it was begun
            self._show(run.key)
        else:
            self.follow(run.key)

    async def _about(self, run_id: str, work: Callable[[], Awaitable[Any]]) -> None:
        """A fault of the work is told as the run's."""
        try:
            await work()
        except Exception as fault:
            await self.send(text_data=self._error_frame(fault, run_id=run_id))

    def _session_agent(self) -> str:
        session = session_find(actor=self.actor, ref=self.ref)
        if session is None or session.agent is None:
            raise InvalidRequest("This session has no agent yet: name one in `agent`.", code="agent_required")
        return session.agent.slug

    async def _since(self, frame: SinceFrame) -> None:
        """What the client missed of a run, and what is still to come of it."""
        run = await in_db_thread(run_get, actor=self.actor, ref=frame.run_id)
        if frame.seq < 0:
            raise InvalidRequest("seq must be an integer from 0.", param="seq")
        self._show(run.key, frame.seq, asked=True)

    def _join(self, here: Process, session: ChatSession | None, place: Place | None) -> None:
        """From now on every run of the session is followed, those under way from their beginning.

        Also where nobody has made the session yet. A name may come to be another person's session.
        """
        self._topic = topic_of(session) if session else awaited_topic(self.actor.tenant_id, self.ref)
        self._surely_theirs = not is_confined(self.actor) or (session is not None and self._topic == session.id)
        self._joined.enter_context(here.audience(self._topic, self.actor.tenant_id, self.ref, self))
        if place is not None:
            self._take(place, here)
        elif self._surely_theirs:
            self._take_seat(here, Participant.Role.OWNER)
        self._spawn(self._follow_open())

    def _take(self, place: Place, here: Process) -> None:
        """The socket ends with the place, or with what it is now."""
        self._place = place
        self._joined.enter_context(here.sockets.watched(place, self._revoked))
        if not self._role:
            self._take_seat(here, place.role or Participant.Role.OWNER)

    def _take_seat(self, here: Process, role: str) -> None:
        """The others are told of them from now on, and they of the others. Nobody can do more than in the tenant."""
        self._role = role if is_allowed(self.actor, "chat.run") else Participant.Role.VIEWER
        self._joined.enter_context(here.presence.seated(self._topic, self.actor, self._role, self._show_presence))

    def _show_presence(self, frame: str) -> None:
        """The newest list only: a client that takes its time is not told of each change."""
        self._presence = frame
        if self._presenting is None or self._presenting.done():
            self._presenting = self._spawn(self._send_presence())

    async def _send_presence(self) -> None:
        while frame := self._presence:
            self._presence = ""
            await self.send(text_data=frame)

    def _refuse_viewers(self) -> None:
        authorize(self.actor, "chat.run")
        if self._role == Participant.Role.VIEWER:
            raise NotPermitted("In this session you are viewer: you cannot write in it.", code="role_too_low")

    def begun(self, key: RunKey) -> None:
        if self._surely_theirs:
            self.follow(key)
        else:
            self._spawn(self._follow_open())

    def found(self, runs: Sequence[Found]) -> None:
        """Those too that may have begun and ended while no announcement came."""
        if not self._surely_theirs:
            self._spawn(self._follow_open())
            return
        for run in runs:
            self._follow_found(run)

    def _follow_found(self, run: Found) -> None:
        if run.is_open or run.created_at > self._joined_at:
            self.follow(run.key)

    def missed(self, fault: Exception) -> None:
        """The client misses runs that it cannot know of: it must open the socket again."""
        self._spawn(self._give_up(fault))

    async def _give_up(self, fault: Exception) -> None:
        await self.send(text_data=self._error_frame(fault))
        await self.close(code=SERVICE_RESTART)

    async def _follow_open(self) -> None:
        try:
            place, found = await in_db_thread(self._runs_to_follow)
        except Exception as fault:
            await self._give_up(fault)
            return
        if self._place is None and place is not None:
            self._take(place, await process())
        for run in found:
            self._follow_found(run)

    def _runs_to_follow(self) -> tuple[Place | None, Sequence[Found]]:
        """Looks for the session each time: it may be new, or made again under the client's id."""
        session = session_find(actor=self.actor, ref=self.ref)
        if session is None:
            return None, ()
        place = self._place or place_of(actor=self.actor, session=session)
        return place, runs_to_follow(actor=self.actor, session_id=session.id, since=self._joined_at)

    def follow(self, key: RunKey, after: int = 0, asked: bool = False) -> None:
        """Once: the same run may be announced again, even after its end, by a repetition that had found it open."""
        if key.run_id not in self._following:
            shown = self._following[key.run_id] = Shown(after, asked)
            shown.task = self._spawn(self._forward(key, shown), asked)
            shown.task.add_done_callback(partial(self._followed, key.run_id))

    def _show(self, key: RunKey, after: int = 0, asked: bool = False) -> None:
        """What follows the seq `after`, unless all of it was sent or is on its way; also of a run that was shown."""
        shown = self._following.get(key.run_id)
        if shown is not None and shown.after <= after < shown.sent:
            return
        if shown is not None:
            shown.task.cancel()
        self._following.pop(key.run_id, None)
        self.follow(key, after, asked)

    def _followed(self, run_id: UUID, task: asyncio.Task[None]) -> None:
        shown = self._following.get(run_id)
        if shown is not None and shown.task is task:
            self._following[run_id] = None

    async def _forward(self, key: RunKey, shown: Shown) -> None:
        here = await process()
        with here.telling():
            async with aclosing(self._frames(key, shown)) as frames:
                async for frame in frames:
                    await self.send(text_data=frame)

    async def _frames(self, key: RunKey, shown: Shown) -> AsyncGenerator[str, None]:
        """A run's events as the client gets them; where they break off, an error that says after which seq."""
        run_id = str(key.run_id)
        try:
            async with aclosing(follow(key, after=shown.after)) as source:
                async for event in source:
                    if event is not None:
                        if event.seq == 1 and event.type == "RUN_STARTED" and not shown.asked:
                            await self._after_others(shown)
                        shown.sent = event.seq
                        yield socket_json(event, run_id)
        except RunMoved as moved:
            yield orjson.dumps(agui.resume_elsewhere(key.run_id, moved.after)).decode()
            await self.close(code=SERVICE_RESTART, reason=moved.code)
        except Exception as fault:
            yield self._error_frame(fault, run_id=run_id, seq=shown.sent)

    async def _after_others(self, shown: Shown) -> None:
        """A session's runs begin one after the other: what is missing of those before is on its way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_ORDER_SECONDS):
                while others := [other.task for other in self._following.values() if other and other.is_before(shown)]:
                    await asyncio.wait(others)

    def _revoked(self, error: ApplicationError) -> None:
        self._spawn(self._close(error))

    def _spawn(self, work: Coroutine[Any, Any, None], asked: bool = False) -> asyncio.Task[None]:
        """In the socket's context: who announces a run may be in another tenant's, or in none."""
        task = asyncio.create_task(work, context=self._context.copy())
        for held in (self._tasks, self._asked) if asked else (self._tasks,):
            held.add(task)
            task.add_done_callback(held.discard)
        return task

    def _error_frame(self, fault: Exception, **metadata: Any) -> str:
        """`metadata` is the run's that the fault is about, as an event has it, or the frame's."""
        error = to_application_error(fault)
        if error is None:
            logger.error("A socket's work failed", exc_info=fault)
            error = ApplicationError("The server failed. The request id leads to its log.")
        about = {"metadata": metadata} if metadata else {}
        body = error.body(request_facts(self.scope).request_id)
        return orjson.dumps({"type": "error", **body, **about}).decode()


def _key(frame: Any) -> dict[str, str]:
    """By which a client knows which of its messages was refused: several may wait for their turn."""
    key = frame.get("idempotency_key") if isinstance(frame, dict) else None
    return {"idempotency_key": key} if isinstance(key, str) else {}


def _found(actor: Principal, ref: str) -> tuple[ChatSession | None, Place | None]:
    """The session and the actor's place in it, None where the actor may make it. Raises NotFound."""
    session = session_or_new(actor=actor, ref=ref)
    return session, place_of(actor=actor, session=session) if session else None
