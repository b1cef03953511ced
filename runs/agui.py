"""AG-UI `RunAgentInput` as a turn."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from ag_ui.core import RunAgentInput
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from agents.models import AgentVersion
from core.errors import InvalidRequest
from core.validation import invalid, parse
from runs.events import custom
from runs.openai_messages import MAX_MESSAGES, MAX_TOOLS, PRINTABLE, ChatMessage, ClientTool, ReplaceFrom
from runs.services.approvals import MAX_COMMENT, Decision
from runs.services.turns import TurnRequest

MAX_ENTRIES = 100  # of one resume
_SPOKEN = {"system", "developer", "user", "assistant", "tool"}


class _Named(ChatMessage):
    id: Annotated[StrictStr, Field(pattern=PRINTABLE)] | Literal[""] = ""


class _Said(BaseModel):
    """What a model can be told, and what the session's columns take."""

    messages: Annotated[list[_Named], Field(max_length=MAX_MESSAGES)]
    tools: Annotated[list[ClientTool], Field(max_length=MAX_TOOLS)]


class _Forwarded(BaseModel):
    """What of `forwardedProps` is for us; the rest is the frontend's own."""

    when_busy: AgentVersion.WhenBusy | None = None
    replace_from: ReplaceFrom | None = None


def turn_request(
    data: Any, *, agent: str, source: str, session: str | None = None, idempotency_key: str | None = None
) -> TurnRequest:
    """The turn that a client's input asks of an agent, in `session` or else in its `threadId`.

    Raises InvalidRequest with every fault at once. `state` is the frontend's own and not used.
    """
    given = parse(RunAgentInput, data)
    thread = session or given.thread_id
    if not re.fullmatch(PRINTABLE, thread):
        raise InvalidRequest("threadId must have 1 to 128 characters, without control characters.", param="threadId")
    messages = [_message(message) for message in given.messages if message.role in _SPOKEN]
    forwarded = parse(_Forwarded, _own(given.forwarded_props), prefix="forwardedProps")
    if not messages and forwarded.replace_from is None:
        raise InvalidRequest("messages must hold what the user says.", param="messages")
    tools = [_tool(tool) for tool in given.tools or []]
    parse(_Said, {"messages": messages, "tools": tools})
    return TurnRequest(
        model=agent,
        messages=messages,
        source=source,
        preamble=[_context(given.context)] if given.context else [],
        client_tools=tools,
        session=thread,
        when_busy=forwarded.when_busy.value if forwarded.when_busy else None,
        idempotency_key=idempotency_key,
        replace_from=forwarded.replace_from,
    )


class ResumePayload(BaseModel):
    """What a person says, by the `responseSchema` of the interrupt."""

    model_config = ConfigDict(extra="forbid")
    approved: StrictBool
    editedArgs: dict[str, Any] | None = None  # noqa: N815 AG-UI's name for it
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] = ""


class ResumeStatus(StrEnum):
    RESOLVED = "resolved"
    CANCELLED = "cancelled"


class ResumeInput(BaseModel):
    model_config = ConfigDict(extra="forbid")
    interruptId: str  # noqa: N815 AG-UI's name for it
    status: ResumeStatus
    payload: ResumePayload | None = None
    metadata: dict[str, Any] | None = None


class Resume(BaseModel):
    """AG-UI's answers to interrupts; `cancelled` denies."""

    model_config = ConfigDict(extra="forbid")
    resume: Annotated[list[ResumeInput], Field(min_length=1, max_length=MAX_ENTRIES)]


def decisions(data: Any) -> list[Decision]:
    """Raises InvalidRequest with every fault at once."""
    entries = parse(Resume, data).resume
    faults = [
        {"path": f"resume.{place}.payload", "code": "missing", "message": "Say whether the call is approved."}
        for place, entry in enumerate(entries)
        if entry.status == ResumeStatus.RESOLVED and entry.payload is None
    ]
    if faults:
        raise invalid(faults)
    return [_decision(entry) for entry in entries]


def _decision(entry: ResumeInput) -> Decision:
    said = entry.payload
    if entry.status == ResumeStatus.CANCELLED or said is None:
        return Decision(entry.interruptId, approved=False, comment=said.comment if said else "")
    edited = None if said.editedArgs is None else orjson.dumps(said.editedArgs).decode()
    return Decision(entry.interruptId, said.approved, edited, said.comment)


def resumed(data: Any) -> tuple[str, list[Decision]] | None:
    """The thread and the decisions of a RunAgentInput that answers interrupts."""
    if not isinstance(data, dict) or not data.get("resume"):
        return None
    given = parse(RunAgentInput, data)
    return given.thread_id, decisions({"resume": data["resume"]})


def _own(forwarded: Any) -> Any:
    return forwarded if isinstance(forwarded, dict) else {}


def resume_elsewhere(run_id: UUID, after: int) -> dict[str, Any]:
    """The last thing that a stopping server says of a run that goes on: follow it again after the seq `after`."""
    return {"type": "CUSTOM", **custom("resume", {"run_id": str(run_id), "after": after})}


def _message(message: BaseModel) -> dict[str, Any]:
    given = message.model_dump(exclude_none=True)
    shaped: dict[str, Any] = {"role": given["role"], "content": _content(given.get("content"))}
    if given.get("id"):
        shaped["id"] = given["id"]
    if given.get("name"):
        shaped["name"] = given["name"]
    if given["role"] == "tool":
        shaped["tool_call_id"] = given["tool_call_id"]
    if given.get("tool_calls"):
        shaped["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": call["function"]} for call in given["tool_calls"]
        ]
    elif given["role"] == "assistant":
        shaped["content"] = shaped["content"] or ""
    return shaped


def _content(content: Any) -> Any:
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """AG-UI's text and image parts as OpenAI's; the model layer refuses what a model cannot take."""
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    source = part.get("source") or {}
    if part["type"] == "image" and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["value"]}}
    if part["type"] == "image" and source.get("type") == "data":
        return {"type": "image_url", "image_url": {"url": f"data:{source['mime_type']};base64,{source['value']}"}}
    raise InvalidRequest(
        f"Content of the type {part['type']} is not supported.", code="unsupported_content", param="messages"
    )


def _tool(tool: Any) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _context(context: list[Any]) -> dict[str, Any]:
    lines = [f"{entry.description}: {entry.value}" for entry in context]
    return {"role": "system", "content": "\n".join(lines)}
