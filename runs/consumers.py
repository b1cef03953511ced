"""The `agui.v1` socket of a session: frames in, AG-UI events out; every socket of a session sees the same runs."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any
from uuid import UUID

import orjson
import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

from core.aio import in_db_thread
from core.api import parse_json
from core.errors import ApplicationError, InvalidRequest, NotAuthenticated, NotPermitted
from core.request_context import set_current_request
from core.tenant import enter_tenant
from core.validation import parse
from runs import agui, runner
from runs.events import Event, socket_json
from runs.follow import follow
from runs.selectors import run_get
from runs.socket_auth import SUBPROTOCOL, authenticate, request_facts
from runs.stream import RunStream, live
from sessions_app.models import ChatSession
from sessions_app.selectors import session_find
from tenants.authentication import refreshed
from tenants.principal import Principal

logger = logging.getLogger(__name__)
UNAUTHENTICATED, FORBIDDEN = 4401, 4403


class RunFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    input: dict[str, Any]
    agent: StrictStr | None = None


class SinceFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    run_id: StrictStr
    seq: StrictInt


class CancelFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: StrictStr
    run_id: StrictStr


class SessionConsumer(AsyncWebsocketConsumer):
    actor: Principal

    async def connect(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: dict[UUID, asyncio.Task[None]] = {}
        self.session_id: Any = None
        self.ref: str = self.scope["url_route"]["kwargs"]["ref"]
        facts = request_facts(self.scope)
        set_current_request(facts.request_id, facts.ip)
        structlog.contextvars.bind_contextvars(request_id=facts.request_id)
        try:
            self.actor = await in_db_thread(authenticate, self.scope)
        except ApplicationError as error:
            await self._refuse(error)
            return
        enter_tenant(self.actor.tenant_id)
        await self.accept(subprotocol=SUBPROTOCOL)
        session = await in_db_thread(session_find, actor=self.actor, ref=self.ref)
        if session is not None:
            self._join(session)
        self._spawn(self._watch_credential())

    async def _refuse(self, error: ApplicationError) -> None:
        """Accepted first, so that the browser learns the close code."""
        offered = SUBPROTOCOL in (self.scope.get("subprotocols") or [])
        await self.accept(subprotocol=SUBPROTOCOL if offered else None)
        await self.close(code=FORBIDDEN if isinstance(error, NotPermitted) else UNAUTHENTICATED, reason=error.code)

    async def disconnect(self, code: int) -> None:
        if self.session_id is not None:
            live.unlisten(self.session_id, self._follow)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "actor"):
            return
        try:
            await self._handle(parse_json((text_data or "").encode() if bytes_data is None else bytes_data))
        except ApplicationError as error:
            await self._send_error(error)
        except Exception:
            logger.exception("A socket frame failed")
            await self._send_error(ApplicationError("The server failed. The request id leads to its log."))

    async def _handle(self, frame: Any) -> None:
        match frame.get("type") if isinstance(frame, dict) else None:
            case "ping":
                await self.send(text_data='{"type":"pong"}')
            case "run":
                await self._run(parse(RunFrame, frame))
            case "since":
                await self._since(parse(SinceFrame, frame))
            case "cancel":
                await runner.stop(actor=self.actor, ref=parse(CancelFrame, frame).run_id)
            case other:
                message = "type must be run, since, cancel or ping."
                raise InvalidRequest(message, code="unknown_frame", param="type" if other is not None else None)

    async def _run(self, frame: RunFrame) -> None:
        agent = frame.agent if frame.agent else await in_db_thread(self._session_agent)
        asked = agui.turn_request(frame.input, agent=agent, source="socket", session=self.ref)
        turn, stream = await runner.begin(actor=self.actor, request=asked)
        assert turn.session is not None  # an agent's turn has one
        self._join(turn.session)
        self._follow(stream)

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
        known = self._following.pop(run.id, None)
        if known is not None:
            known.cancel()  # it starts again where the client says
        events = follow(actor=self.actor, run=run, after=frame.seq)
        self._following[run.id] = self._spawn(self._forward(events, str(run.id)))

    def _join(self, session: ChatSession) -> None:
        if self.session_id is None:
            self.session_id = session.id
            live.listen(session.id, self._follow)
            for stream in live.of_session(session.id):
                self._follow(stream)

    def _follow(self, stream: RunStream) -> None:
        if stream.run_id not in self._following:
            task = self._spawn(self._forward(stream.follow(), str(stream.run_id)))
            self._following[stream.run_id] = task

    async def _forward(self, events: AsyncGenerator[Event | None, None], run_id: str) -> None:
        async with aclosing(events) as source:
            async for event in source:
                if event is not None:
                    await self.send(text_data=socket_json(event, run_id))

    async def _watch_credential(self) -> None:
        """Close within 5 s of the key or membership being revoked, lowered or suspended."""
        while True:
            await asyncio.sleep(settings.SOCKET_RECHECK_SECONDS)
            try:
                await in_db_thread(refreshed, self.actor)
            except (NotAuthenticated, NotPermitted) as error:
                code = FORBIDDEN if isinstance(error, NotPermitted) else UNAUTHENTICATED
                await self.close(code=code, reason=error.code)
                return
            except Exception:
                logger.exception("A socket's credential could not be checked")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send_error(self, error: ApplicationError) -> None:
        body = error.body(request_facts(self.scope).request_id)
        await self.send(text_data=orjson.dumps({"type": "error", **body}).decode())
