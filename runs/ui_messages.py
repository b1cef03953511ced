"""The AI SDK's UI messages as a turn, or as answers to what a run asks: https://ai-sdk.dev/docs/ai-sdk-ui/transport"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictStr, field_validator, model_validator

from agents.models import AgentVersion
from core.errors import InvalidRequest
from core.validation import has_large_number, parse
from runs.openai_messages import MAX_MESSAGES, MAX_TOOLS, PRINTABLE, ChatMessage, ClientTool, Lenient
from runs.services.approvals import MAX_COMMENT, Decision
from runs.services.turns import TurnRequest

MAX_PARTS = 2000  # of one message: an answer has all its steps in one
_HELD = {"text": ["text"], "reasoning": ["text"], "file": ["url", "mediaType"]}
_ANSWERED = frozenset({"output-available", "output-error"})
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


class UiPart(BaseModel):
    """`text`, `file`, or of an answer also `tool-<name>`, `dynamic-tool`, `step-start`; others are the page's own."""

    model_config = ConfigDict(extra="allow")
    type: StrictStr

    @model_validator(mode="after")
    def _holds_what_it_says(self) -> "UiPart":
        wanted = ["toolCallId"] if self.tool is not None else _HELD.get(self.type, [])
        for name in wanted:
            if not isinstance(self.said.get(name), str):
                raise ValueError(f"A part of the type {self.type} needs {name}, a string.")
        return self

    @property
    def said(self) -> dict[str, Any]:
        return self.model_extra or {}

    @property
    def tool(self) -> str | None:
        """The name of the tool that a part tells of."""
        if self.type == "dynamic-tool":
            return str(self.said.get("toolName") or "")
        return self.type.removeprefix("tool-") if self.type.startswith("tool-") else None

    @property
    def state(self) -> Any:
        return self.said.get("state")


class UiMessage(Lenient):
    id: Annotated[StrictStr, Field(pattern=PRINTABLE)] | Literal[""] = ""
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[UiPart], Field(max_length=MAX_PARTS)]

    @property
    def steps(self) -> list[list[UiPart]]:
        found: list[list[UiPart]] = [[]]
        for part in self.parts:
            if part.type == "step-start":
                found.append([])
            else:
                found[-1].append(part)
        return found


class UiTool(Lenient):
    """A tool that the page runs."""

    name: StrictStr
    description: StrictStr = ""
    parameters: dict[str, Any] | None = None


class UiChat(Lenient):
    """What `DefaultChatTransport` posts. `tools` and `when_busy` are the page's `body`; the rest of that is its own."""

    id: Annotated[StrictStr, Field(pattern=PRINTABLE, description="The session.")]
    messages: Annotated[list[UiMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: StrictStr | None = None  # noqa: N815 the AI SDK's name for it
    tools: Annotated[list[UiTool], Field(max_length=MAX_TOOLS)] = []
    when_busy: AgentVersion.WhenBusy | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _storable(cls, messages: Any) -> Any:
        if has_large_number(messages):
            raise ValueError("A number in it has more than 64 bits.")
        return messages

    @property
    def continued(self) -> UiMessage | None:
        """The answer that the client has, and with which the next one goes on."""
        if self.trigger == "regenerate-message":
            return None
        found = self._named or self.messages[-1]
        return found if found.role == "assistant" else None

    @property
    def asked_again(self) -> str | None:
        """The id of the last question, when it was changed, or when its answer shall be made anew."""
        last = next((message.id for message in reversed(self.messages) if message.role == "user"), None)
        if self.trigger == "regenerate-message":
            return last or None
        return last if last and last == self.messageId else None

    @property
    def _named(self) -> UiMessage | None:
        return next((message for message in self.messages if message.id and message.id == self.messageId), None)


class _Said(BaseModel):
    """What a model can be told, and what the session's columns take."""

    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)]
    tools: list[ClientTool]


def turn_request(chat: UiChat, *, agent: str, idempotency_key: str | None) -> TurnRequest:
    """Raises InvalidRequest with every fault at once."""
    messages = _messages(chat.messages)
    tools = [_tool(tool) for tool in chat.tools]
    parse(_Said, {"messages": messages, "tools": tools})
    return TurnRequest(
        model=agent,
        messages=messages,
        source="ui-stream",
        client_tools=tools,
        session=chat.id,
        when_busy=chat.when_busy.value if chat.when_busy else None,
        idempotency_key=idempotency_key,
        ask_again=chat.asked_again,
    )


def decisions(chat: UiChat) -> list[Decision]:
    """What a person says about calls of tools, by the answer that the client goes on with."""
    message = chat.continued
    return [_decision(part) for part in message.steps[-1] if part.state == "approval-responded"] if message else []


class _Approval(Lenient):
    id: StrictStr
    approved: bool
    reason: Annotated[StrictStr, Field(max_length=MAX_COMMENT)] | None = None


def _decision(part: UiPart) -> Decision:
    said = parse(_Approval, part.said.get("approval") or {}, prefix="messages.approval")
    return Decision(said.id, said.approved, comment=said.reason or "")


def _messages(messages: list[UiMessage]) -> list[dict[str, Any]]:
    """In OpenAI's shape. The last answer's last step has results of the client's own tools only: the session has those
    of the server's.
    """
    answers = [message for message in messages if message.role == "assistant"]
    found: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "assistant":
            found += _answer(message, last=message is answers[-1])
        else:
            named = {"id": message.id} if message.id else {}
            found.append({**named, "role": message.role, "content": _content(message.parts)})
    return found


def _content(parts: list[UiPart]) -> Any:
    found = [_part(part) for part in parts if part.type in ("text", "file")]
    if all(part["type"] == "text" for part in found):
        return "\n".join(part["text"] for part in found)
    return found


def _part(part: UiPart) -> dict[str, Any]:
    """As OpenAI's; the model layer refuses what a model cannot take."""
    if part.type == "text":
        return {"type": "text", "text": part.said["text"]}
    url, media = part.said["url"], part.said["mediaType"]
    if media.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    data = url.partition(";base64,")[2] if url.startswith("data:") else ""
    if not data:
        message = f"A file of the type {media} must be a data: URL; images may have another address."
        raise InvalidRequest(message, code="unsupported_content", param="messages")
    if media in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[media]}}
    name = str(part.said.get("filename") or "file")
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def _answer(message: UiMessage, *, last: bool) -> list[dict[str, Any]]:
    steps = [step for step in message.steps if any(part.type == "text" or part.tool for part in step)]
    found: list[dict[str, Any]] = []
    for place, step in enumerate(steps, 1):
        found += _said(step, ours=not (last and place == len(steps)))
    return found or [{"role": "assistant", "content": ""}]


def _said(step: list[UiPart], *, ours: bool) -> list[dict[str, Any]]:
    """What one step said and called, and what its tools answered; results of the server's tools if `ours`."""
    text = "\n\n".join(part.said["text"] for part in step if part.type == "text")
    called = [part for part in step if part.tool and part.state != "input-streaming"]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if called:
        message["tool_calls"] = [_call(part) for part in called]
    results = [part for part in called if part.state in _ANSWERED and (ours or not part.said.get("providerExecuted"))]
    return [message, *(_result(part) for part in results)]


def _call(part: UiPart) -> dict[str, Any]:
    given = part.said.get("input")
    arguments = orjson.dumps({} if given is None else given).decode()
    return {"id": part.said["toolCallId"], "type": "function", "function": {"name": part.tool, "arguments": arguments}}


def _result(part: UiPart) -> dict[str, Any]:
    output = part.said.get("errorText" if part.state == "output-error" else "output")
    content = output if isinstance(output, str) else orjson.dumps(output).decode()
    return {"role": "tool", "tool_call_id": part.said["toolCallId"], "content": content}


def _tool(tool: UiTool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
