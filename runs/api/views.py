from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ag_ui.core import RunAgentInput
from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents.selectors import agent_list
from core.aio import in_db_thread
from core.api import LIST_PARAMETERS, body_errors, errors_of, list_of, page_limit, paginate
from core.errors import InvalidRequest
from core.validation import parse
from llm.selectors import model_names
from runs import agui, runner, selectors, sse
from runs.api import examples
from runs.api.chat_request import ChatCompletion
from runs.api.serializers import ChatOutput, ModelListOutput, RunEventList, RunOutput, run_json
from runs.events import Event
from runs.follow import follow
from runs.models import Run
from runs.openai_chat import ChatFormat, chunks, completion
from runs.services import TurnRequest
from runs.stream import RunStream, live
from sessions_app.selectors import session_get
from tenants.api.base import ApiView, AsyncApiView

_HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F)))  # a client's own session id may be any text
EVENT_STREAM = (200, "text/event-stream")


def event_stream(data: str) -> OpenApiResponse:
    """A stream's answer in the schema, which describes one server-sent event of it."""
    text = {"type": "string"}
    fields = {
        "data": {**text, "description": data},
        "event": {**text, "description": "`error` when it failed."},
        "id": text,
    }
    return OpenApiResponse({"type": "object", "properties": fields, "required": ["data"]}, description=data)


CHAT_ERRORS = body_errors(404, 409, 429, 502, 503, 504)


class ChatCompletionsView(AsyncApiView):
    @extend_schema(
        request=ChatCompletion,
        responses={
            (200, "application/json"): ChatOutput,
            EVENT_STREAM: event_stream("An OpenAI chunk as JSON, at last `[DONE]`; when `stream` is true."),
            **CHAT_ERRORS,
        },
        examples=examples.CHAT,
        operation_id="chat_completions",
        tags=["chat"],
    )
    async def post(self, request: Request) -> Any:
        """OpenAI chat completions. `model` is an agent's slug, or `provider_slug/model` for the model itself.

        `metadata.session_id` continues a session; `metadata.user_id` names your end user.
        """
        body = parse(ChatCompletion, request.data)
        turn, stream = await runner.begin(actor=self.actor, request=_turn_request(body))
        form = ChatFormat(
            stream,
            model=body.model,
            client_tools=[tool.function.name for tool in body.tools or []],
            bare=turn.version is None,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        if body.stream:
            await _first_word(stream)
            return sse.EventStreamResponse(_tied(chunks(form), stream), _run_headers(stream))
        try:
            return Response(await completion(form), headers=_run_headers(stream))
        finally:
            runner.stop_if_alone(stream)


def _turn_request(body: ChatCompletion) -> TurnRequest:
    metadata = body.metadata
    return TurnRequest(
        model=body.model,
        messages=body.wire_messages(),
        source="api",
        params=body.wire_params(),
        client_tools=body.wire_tools(),
        session=metadata.session_id if metadata else None,
        end_user=(metadata.user_id if metadata else None) or "",
    )


async def _first_word(stream: RunStream) -> None:
    """Wait until the run says something, so that one that fails before is answered by an error status."""
    async with aclosing(stream.follow(after=1, idle=settings.HEARTBEAT_SECONDS)) as events:
        await anext(events, None)
    if stream.error is not None and len(stream.events) == 2:
        raise stream.error


def _run_headers(stream: RunStream) -> dict[str, str]:
    headers = {"X-Run-Id": str(stream.run_id)}
    if stream.session_id is not None:
        headers["X-Session-Id"] = quote(stream.thread_id, safe=_HEADER_SAFE)
    return headers


async def _tied(frames: AsyncGenerator[bytes, None], stream: RunStream) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(frames) as source:
            async for frame in source:
                yield frame
    finally:
        runner.stop_if_alone(stream)


class AgentRunView(AsyncApiView):
    @extend_schema(
        request=RunAgentInput,
        responses={EVENT_STREAM: event_stream("An AG-UI event as JSON; `id` is its seq."), **CHAT_ERRORS},
        examples=examples.AG_UI,
        operation_id="agents_ag_ui",
        tags=["chat"],
    )
    async def post(self, request: Request, ref: str) -> Any:
        """Run an agent by AG-UI 1.0: `RunAgentInput` in, events out. `threadId` is the session."""
        asked = agui.turn_request(request.data, agent=ref, source="ag-ui")
        _, stream = await runner.begin(actor=self.actor, request=asked)
        followed = stream.follow(idle=settings.HEARTBEAT_SECONDS)
        return sse.EventStreamResponse(_event_frames(followed), _run_headers(stream))


async def _event_frames(events: AsyncGenerator[Event | None, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events) as source:
        async for event in source:
            yield sse.HEARTBEAT if event is None else sse.frame(event.json, id=event.seq)


class RunView(ApiView):
    @extend_schema(responses={200: RunOutput, **errors_of(404)}, operation_id="runs_get", tags=["runs"])
    def get(self, request: Request, ref: str) -> Response:
        """One run."""
        return Response(run_json(selectors.run_get(actor=self.actor, ref=ref)))


class SessionRunsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(RunOutput), **errors_of(404)},
        operation_id="sessions_runs",
        tags=["chat"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The runs of a session, newest first."""
        session = session_get(actor=self.actor, ref=ref)
        return paginate(request, selectors.run_list(actor=self.actor, session=session), run_json)


class RunCancelView(AsyncApiView):
    @extend_schema(
        request=None, responses={200: RunOutput, **errors_of(404)}, operation_id="runs_cancel", tags=["runs"]
    )
    async def post(self, request: Request, ref: str) -> Response:
        """Stop a run: the provider's connection is closed at once, what was said is kept. A run that ended stays so."""
        run = await runner.stop(actor=self.actor, ref=ref)
        return Response(await in_db_thread(run_json, run))


class RunEventsView(AsyncApiView):
    @extend_schema(
        parameters=[
            OpenApiParameter("after", {"type": "integer", "minimum": 0, "default": 0}, description="A `seq`."),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
            OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER, description="`after`, for event streams."),
        ],
        responses={
            (200, "application/json"): RunEventList,
            EVENT_STREAM: event_stream("An AG-UI event as JSON, replayed, then live; for that `Accept`."),
            **errors_of(404),
        },
        operation_id="runs_events",
        tags=["runs"],
    )
    async def get(self, request: Request, ref: str) -> Any:
        """A run's timeline after `after`: a JSON list, or an event stream by `Accept: text/event-stream`."""
        streamed = "text/event-stream" in request.headers.get("Accept", "")
        resume = request.headers.get("Last-Event-ID") if streamed else None
        after = _sequence(resume if resume is not None else request.GET.get("after", "0"))
        limit = page_limit(request, maximum=1000, default=100)
        run = await in_db_thread(selectors.run_get, actor=self.actor, ref=ref)
        if streamed:
            return sse.EventStreamResponse(_event_frames(follow(actor=self.actor, run=run, after=after)))
        stored = await self._known_events(run, after, limit + 1)
        page, more = stored[:limit], len(stored) > limit
        following = str(page[-1].seq) if more else None
        data = [{"seq": event.seq, "at": _time(event), "event": event.data} for event in page]
        return Response({"object": "list", "data": data, "has_more": more, "next_cursor": following})

    async def _known_events(self, run: Run, after: int, limit: int) -> list[Event]:
        stream = live.get(run.id)
        if stream is not None:
            return stream.events[after : after + limit]
        return await in_db_thread(selectors.event_list, actor=self.actor, run=run, after=after, limit=limit)


def _sequence(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest("after must be the seq of an event, an integer from 0.", param="after")
    return int(text)


def _time(event: Event) -> str:
    return datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ModelsView(ApiView):
    @extend_schema(responses={200: ModelListOutput, **errors_of()}, operation_id="models_list", tags=["chat"])
    def get(self, request: Request) -> Response:
        """What `model` may be: the active agents, and the models of the providers."""
        agents = agent_list(actor=self.actor, status="active")
        data = [_model(agent.slug, agent.created_at, "agentsite") for agent in agents]
        data += [_model(model.name, model.created_at, model.provider) for model in model_names(self.actor)]
        return Response({"object": "list", "data": data})


def _model(id: str, created: datetime, owner: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": int(created.timestamp()), "owned_by": owner}
