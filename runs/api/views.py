from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from ag_ui.core import RunAgentInput
from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents.selectors import agent_get, agent_list
from core.aio import in_db_thread
from core.api import page_limit, paginate
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from core.errors import ApplicationError, InvalidRequest, NotFound
from core.request_context import current_request
from core.validation import parse
from llm.selectors.providers import model_names
from runs import agui, runner, selectors, sse
from runs.api import examples
from runs.api.chat_request import ChatCompletion
from runs.api.serializers import ChatOutput, ModelListOutput, RunEventList, RunOutput, run_json
from runs.attend import attend
from runs.events import Event, error_of
from runs.exceptions import RunMoved
from runs.follow import as_seen_after, follow, opened
from runs.models import Run
from runs.openai_chat import ChatFormat, chunks, completion
from runs.process import process
from runs.services.approvals import Decision
from runs.services.turns import KEY, MAX_KEY, TurnRequest, checked_key
from sessions_app.selectors.sessions import session_get
from tenants.api.base import ApiView, AsyncApiView
from tenants.principal import Principal

_HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F)))  # a client's own session id may be any text
EVENT_STREAM = (200, "text/event-stream")
Followed = AsyncGenerator[Event | None, None]


def event_stream(data: str) -> OpenApiResponse:
    """A stream's answer in the schema, which describes one server-sent event of it."""
    text = {"type": "string"}
    fields = {
        "data": {**text, "description": data},
        "event": {**text, "description": "`error` when it failed."},
        "id": text,
    }
    return OpenApiResponse({"type": "object", "properties": fields, "required": ["data"]}, description=data)


CHAT_ERRORS = body_errors(404, 409, 422, 429, 502, 503, 504)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": KEY},
    OpenApiParameter.HEADER,
    description="Names this request among its repetitions: they find the run that the first has begun.",
)


class ChatCompletionsView(AsyncApiView):
    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
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
        asked = _turn_request(body, idempotency_key(request))
        run = await runner.begin(actor=self.actor, request=asked, quiet=not body.stream)
        form = ChatFormat(
            run,
            model=body.model,
            client_tools=[tool.function.name for tool in body.tools or []],
            bare=run.agent_version_id is None and run.session_id is None,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        events = attend(run)
        try:
            return await _answer(run, form, events, streamed=bool(body.stream))
        except ApplicationError as error:
            error.headers = run_headers(run)
            raise


async def _answer(run: Run, form: ChatFormat, events: Followed, *, streamed: bool) -> Any:
    """A stream of a run that waits for its turn begins at once, so that the client knows the run."""
    if streamed:
        told = events if run.status == Run.Status.QUEUED else await begun(events)
        return sse.EventStreamResponse(chunks(form, told), run_headers(run))
    return Response(await completion(form, events), headers=run_headers(run))


def _turn_request(body: ChatCompletion, key: str | None) -> TurnRequest:
    metadata = body.metadata
    return TurnRequest(
        model=body.model,
        messages=body.wire_messages(),
        source="api",
        params=body.wire_params(),
        client_tools=body.wire_tools(),
        session=metadata.session_id if metadata else None,
        end_user=(metadata.user_id if metadata else None) or "",
        when_busy=metadata.when_busy.value if metadata and metadata.when_busy else None,
        metadata=metadata.own() if metadata else {},
        idempotency_key=key,
        replace_from=metadata.replace_from if metadata else None,
    )


def idempotency_key(request: Request) -> str | None:
    """The header of that name; raises InvalidRequest for one that cannot be stored."""
    return checked_key(request.headers.get("Idempotency-Key"))


async def begun(events: Followed) -> Followed:
    """Once the run has said something, so that one that fails before is answered by an error status."""
    head, everything = await opened(events, 2)
    failed = next((event for event in head if event is not None and event.type == "RUN_ERROR"), None)
    if failed is not None:
        await everything.aclose()
        await events.aclose()
        raise error_of(failed)
    return everything


def run_headers(run: Run) -> dict[str, str]:
    headers = {"X-Run-Id": str(run.id)}
    if run.session_id is not None:
        headers["X-Session-Id"] = quote(run.thread_id, safe=_HEADER_SAFE)
    return headers


class AgentRunView(AsyncApiView):
    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=RunAgentInput,
        responses={EVENT_STREAM: event_stream("An AG-UI event as JSON; `id` is its seq."), **CHAT_ERRORS},
        examples=examples.AG_UI,
        operation_id="agents_ag_ui",
        tags=["chat"],
    )
    async def post(self, request: Request, ref: str) -> Any:
        """Run an agent by AG-UI 1.0: `RunAgentInput` in, events out. `threadId` is the session.

        `resume` answers the interrupts of a run that waits, which then goes on; the events are those that follow.
        """
        resumed = agui.resumed(request.data)
        if resumed is not None:
            run, after = await resumed_run(self.actor, ref, *resumed)
        else:
            key = idempotency_key(request)
            asked = agui.turn_request(request.data, agent=ref, source="ag-ui", idempotency_key=key)
            run, after = await runner.begin(actor=self.actor, request=asked), 0
        followed = follow(run.key, after=after, idle=settings.HEARTBEAT_SECONDS)
        return sse.EventStreamResponse(_event_frames(run, followed, whole=False), run_headers(run))


async def resumed_run(actor: Principal, agent: str, thread: str, decisions: list[Decision]) -> tuple[Run, int]:
    """The run, and the seq of the interrupt that was answered."""
    approval = await in_db_thread(selectors.approval_get, actor=actor, ref=decisions[0].approval_id)
    run = approval.run
    asked = await in_db_thread(agent_get, actor=actor, ref=agent)
    its = run.agent_version is not None and run.agent_version.agent_id == asked.id
    if not its or thread not in (run.thread_id, str(run.session_id)):
        raise NotFound("No approval with this id.", code="approval_not_found", param="resume.0.interruptId")
    after = await in_db_thread(selectors.last_interrupt, run=run)
    return await runner.resume(actor=actor, ref=str(run.id), decisions=decisions), after


async def _event_frames(run: Run, events: Followed, *, whole: bool = True) -> AsyncGenerator[bytes, None]:
    """Until the run ends, or, where not the `whole` is asked for, until it waits for a person: AG-UI's runs end there.

    A server that stops says after which seq to go on: a client asks for the run's events with it.
    """
    with (await process()).telling():
        try:
            async with aclosing(events) as source:
                async for event in source:
                    yield sse.HEARTBEAT if event is None else sse.frame(event.json, id=event.seq)
                    if event is not None and event.is_interrupt and not whole:
                        return
        except RunMoved as moved:
            yield sse.retry(1000) + sse.frame(orjson.dumps(agui.resume_elsewhere(run.id, moved.after)))
        except ApplicationError as error:
            yield sse.frame(orjson.dumps(error.body(current_request().request_id)), event="error")


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
        request=None, responses={200: RunOutput, **errors_of(404, 503)}, operation_id="runs_cancel", tags=["runs"]
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
            OpenApiParameter(
                "Last-Event-ID",
                str,
                OpenApiParameter.HEADER,
                description="For event streams, in place of `after`; an empty one is as none.",
            ),
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
        resume = request.headers.get("Last-Event-ID") if streamed else None  # an empty one means none, as in HTML
        after = _sequence(resume, "Last-Event-ID") if resume else _sequence(request.GET.get("after", "0"), "after")
        limit = page_limit(request, maximum=1000, default=100)
        run = await in_db_thread(selectors.run_get, actor=self.actor, ref=ref)
        if streamed:
            _, events = await opened(follow(run.key, after=after, idle=settings.HEARTBEAT_SECONDS), 1)
            return sse.EventStreamResponse(_event_frames(run, events), run_headers(run))
        stored = await in_db_thread(selectors.event_list, actor=self.actor, run=run, after=after, limit=limit + 1)
        page, more = stored[:limit], len(stored) > limit
        following = str(page[-1].seq) if more else None
        data = [_event_json(event, after) for event in page]
        return Response({"object": "list", "data": data, "has_more": more, "next_cursor": following})


def _event_json(event: Event, after: int) -> dict[str, Any]:
    return {"seq": event.seq, "at": _time(event), "event": as_seen_after(event, after).data}


def _sequence(text: str, param: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest(f"{param} must be the seq of an event, an integer from 0.", param=param)
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
