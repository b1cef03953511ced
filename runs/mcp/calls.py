"""A call of a tool is a turn of its agent, as any other edge begins it."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import Field, StrictStr

from core.aio import in_db_thread
from core.errors import ApplicationError, InvalidRequest
from core.request_context import current_request
from core.tenant import tenant_context
from core.validation import parse
from runs import runner
from runs.attend import attend
from runs.events import Event
from runs.mcp.messages import Message, Params, Token, success
from runs.mcp.tools import Answer, Arguments, is_tool
from runs.models import Run
from runs.openai_chat import ChatFormat, completed
from runs.services.turns import TurnRequest
from tenants.principal import Principal

PROGRESS_SECONDS = 0.1  # between two notifications of what is being said


class CallParams(Params):
    name: Annotated[StrictStr, Field(max_length=128)]
    arguments: dict[str, Any] = {}


async def tool_call(
    actor: Principal, id: Token, params: CallParams, key: str | None
) -> AsyncGenerator[Message | None, None]:
    """Notifications of progress if asked for, None while nothing comes, at last the result.

    Raises InvalidRequest for a tool that is not there; what else goes wrong is a result, which a model can read.
    """
    with tenant_context(actor.tenant_id):
        known = await in_db_thread(is_tool, actor=actor, name=params.name)
    if not known:
        raise InvalidRequest(f"There is no tool '{params.name}': tools/list names them.", code="unknown_tool")
    run: Run | None = None
    try:
        run = await _begun(actor, params, key)
        progress, told = _Progress(params.meta.progress_token), []
        async with aclosing(attend(run)) as events:
            async for event in events:
                if event is None:
                    yield None
                    continue
                told.append(event)
                if (notification := progress.of(event)) is not None:
                    yield notification
        yield success(id, _result(run, told))
    except ApplicationError as error:
        yield success(id, _failed(run, error))


async def _begun(actor: Principal, params: CallParams, key: str | None) -> Run:
    given = parse(Arguments, params.arguments)
    asked = TurnRequest(
        model=params.name,
        messages=[{"role": "user", "content": given.message}],
        source="mcp",
        session=given.session_id,
        idempotency_key=key,
    )
    with tenant_context(actor.tenant_id):
        return await runner.begin(actor=actor, request=asked)


def _result(run: Run, told: list[Event]) -> dict[str, Any]:
    """Raises the run's error."""
    form = ChatFormat(run, model=run.model, client_tools=(), bare=False)
    whole = completed(form, told)
    said = whole["choices"][0]["message"]
    answer = Answer(answer=said["content"] or said["refusal"] or "", **whole["metadata"])
    structured = answer.model_dump(exclude_none=True)
    return {"content": [_text(answer.answer)], "structuredContent": structured, "isError": False}


def _failed(run: Run | None, error: ApplicationError) -> dict[str, Any]:
    ids = {"session_id": run.thread_id, "run_id": str(run.id)} if run else {}
    meta = {**error.body(current_request().request_id), **ids}
    return {"content": [_text(_explained(error))], "isError": True, "_meta": meta}


def _explained(error: ApplicationError) -> str:
    """For a model, which shall be able to do better."""
    faults = "; ".join(f"{fault['path']}: {fault['message']}" for fault in error.details or ())
    again = "" if error.retry_after is None else f" Try again in {max(1, round(error.retry_after))} s."
    return f"{faults or error.message} (code: {error.code}){again}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


class _Progress:
    """What the agent says and does, told to who gave a token."""

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._said = ""
        self._told_at = 0.0

    def of(self, event: Event) -> Message | None:
        """The notification for an event; what is said meanwhile is told with the next one."""
        if self._token is None:
            return None
        if event.type == "TOOL_CALL_START":
            return self._notification(event, f"Calling {event.data['toolCallName']}")
        if event.type != "TEXT_MESSAGE_CONTENT":
            return None
        self._said += event.data["delta"]
        if time.monotonic() - self._told_at < PROGRESS_SECONDS:
            return None
        said, self._said, self._told_at = self._said, "", time.monotonic()
        return self._notification(event, said)

    def _notification(self, event: Event, message: str) -> Message:
        """`progress` must grow, and so does a run's `seq`."""
        params = {"progressToken": self._token, "progress": event.seq, "message": message}
        return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
