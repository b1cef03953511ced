from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request

from core.aio import in_db_thread
from core.api_schema import errors_of
from core.errors import ApplicationError
from core.validation import parse
from runs import runner, selectors, sse, ui_messages
from runs.api import examples
from runs.api.views import (
    CHAT_ERRORS,
    EVENT_STREAM,
    IDEMPOTENCY_KEY,
    Followed,
    begun,
    event_stream,
    idempotency_key,
    resumed_run,
    run_headers,
)
from runs.follow import follow, opened
from runs.models import Run
from runs.services.approvals import Decision
from runs.ui_messages import UiChat
from runs.ui_stream import HEADERS, UiStream, frames, known, replayed
from tenants.api.base import AsyncApiView

ANSWER = {EVENT_STREAM: event_stream("A part of a UI message as JSON, at last `[DONE]`.")}


class UiStreamView(AsyncApiView):
    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=UiChat,
        responses={**ANSWER, **CHAT_ERRORS},
        examples=examples.UI_STREAM,
        operation_id="agents_ui_stream",
        tags=["chat"],
    )
    async def post(self, request: Request, ref: str) -> Any:
        """Run an agent for the AI SDK's `useChat`: UI messages in, a UI message stream out. `id` is the session.

        Answers to `tool-approval-request` parts resume the run that asked; the message goes on.
        """
        chat = parse(UiChat, request.data)
        message_id = chat.continued.id if chat.continued else None
        decided = ui_messages.decisions(chat)
        if decided:
            return await self._resume(ref, chat.id, decided, message_id)
        key = idempotency_key(request)
        asked = ui_messages.turn_request(chat, agent=ref, idempotency_key=key)
        run = await runner.begin(actor=self.actor, request=asked)
        events = replayed(run, idle=settings.HEARTBEAT_SECONDS) if key else _followed(run)
        try:
            events = events if run.status == Run.Status.QUEUED else await begun(events)
        except ApplicationError as error:
            error.headers = run_headers(run)
            raise
        return _answer(run, UiStream(run, message_id=message_id), events)

    async def _resume(self, agent: str, thread: str, decided: list[Decision], message_id: str | None) -> Any:
        run, after = await resumed_run(self.actor, agent, thread, decided)
        told = UiStream(run, message_id=message_id)
        await known(told, after)
        return _answer(run, told, _followed(run, after))


class UiStreamResumeView(AsyncApiView):
    @extend_schema(
        responses={**ANSWER, 204: OpenApiResponse(description="Nothing runs."), **errors_of(404)},
        operation_id="agents_ui_stream_resume",
        tags=["chat"],
    )
    async def get(self, request: Request, ref: str, session: str) -> Any:
        """The message that an agent is saying in a session, from its beginning, for `useChat` with `resume`.

        One that waits for a person ends with the question.
        """
        runs = await in_db_thread(selectors.answering_runs, actor=self.actor, agent=ref, session=session)
        if not runs:
            return HttpResponse(status=204)
        *earlier, run = runs
        told = UiStream(run, message_id=str(runs[0].id))
        _, events = await opened(replayed(run, idle=settings.HEARTBEAT_SECONDS), 1)
        return _answer(run, told, events, earlier)


def _followed(run: Run, after: int = 0) -> Followed:
    return follow(run.key, after=after, idle=settings.HEARTBEAT_SECONDS)


def _answer(run: Run, told: UiStream, events: Followed, earlier: Sequence[Run] = ()) -> sse.EventStreamResponse:
    return sse.EventStreamResponse(frames(told, events, earlier), {**run_headers(run), **HEADERS})
