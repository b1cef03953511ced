"""LangChain's messages and errors, and ours. Imported by `llm.chat_model` only: LangChain costs 0.7 s to import."""

from collections.abc import Sequence
from typing import Any

import orjson
from langchain_core import exceptions as theirs
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.messages.utils import convert_to_openai_messages
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call

from core.errors import ApplicationError
from llm import exceptions as ours
from llm.wire import Completion, Delta, Usage

EXTRA = "tool_call_extra"  # in additional_kwargs: what a provider wants back with its tool calls, by call id


def to_wire(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AIMessage):
            wire.append(_assistant(message))
        else:
            wire.extend(convert_to_openai_messages([message], include_id=False))
    return wire


def _assistant(message: AIMessage) -> dict[str, Any]:
    if not isinstance(message.content, str):
        (converted,) = convert_to_openai_messages([message], include_id=False)
        return dict(converted)
    calls = [_call(call["id"], call["name"], orjson.dumps(call["args"]).decode()) for call in message.tool_calls]
    calls += [_call(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls]
    extra = message.additional_kwargs.get(EXTRA) or {}
    for call in calls:
        if call["id"] in extra:
            call["extra_content"] = extra[call["id"]]
    wire: dict[str, Any] = {"role": "assistant", "content": message.content or (None if calls else "")}
    if message.name:
        wire["name"] = message.name
    return {**wire, "tool_calls": calls} if calls else wire


def _call(call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}


def to_message(answer: Completion, metadata: dict[str, Any]) -> AIMessage:
    """A call whose arguments are no JSON object becomes an invalid tool call, as LangChain's agents expect."""
    valid, invalid = [], []
    for call in answer.tool_calls:
        part = call.as_message_part()
        try:
            valid.append(parse_tool_call(part, return_id=True))
        except theirs.OutputParserException as error:
            invalid.append(make_invalid_tool_call(part, str(error)))
    extra = {call.id: call.extra_content for call in answer.tool_calls if call.extra_content}
    said = {"reasoning_content": answer.reasoning, "refusal": answer.refusal, EXTRA: extra}
    return AIMessage(
        content=answer.text,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=to_usage(answer.usage),
        response_metadata=metadata,
        additional_kwargs={name: value for name, value in said.items() if value},
    )


def to_chunk(delta: Delta, metadata: dict[str, Any]) -> AIMessageChunk:
    """Without usage: LangChain adds up the usage of chunks, and a provider may repeat it."""
    calls = [
        ToolCallChunk(name=call.name, args=call.arguments, id=call.id, index=call.index, type="tool_call_chunk")
        for call in delta.tool_calls or ()
    ]
    extra = {call.id: call.extra_content for call in delta.tool_calls or () if call.id and call.extra_content}
    said = {"reasoning_content": delta.reasoning, "refusal": delta.refusal, EXTRA: extra}
    return AIMessageChunk(
        content=delta.text or "",
        tool_call_chunks=calls,
        response_metadata=metadata,
        additional_kwargs={name: value for name, value in said.items() if value},
    )


def to_usage(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    total = usage.total_tokens or usage.prompt_tokens + usage.completion_tokens
    counted = UsageMetadata(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=total)
    cached = (usage.prompt_tokens_details or {}).get("cached_tokens")
    if cached is not None:
        counted["input_token_details"] = InputTokenDetails(cache_read=cached)
    reasoning = (usage.completion_tokens_details or {}).get("reasoning_tokens")
    if reasoning is not None:
        counted["output_token_details"] = OutputTokenDetails(reasoning=reasoning)
    return counted


def to_langchain_error(error: ApplicationError) -> ApplicationError:
    """The same error, which LangChain's own retry and fallback recognise as well."""
    kind = _their_kind(error)
    twin: Any = _twin(type(error), kind)(
        error.message, code=error.code, param=error.param, retry_after=error.retry_after
    )
    twin.details = error.details
    if isinstance(error, ours.ProviderError):
        twin.retryable = error.retryable
        twin.is_retryable = error.retryable
    mapped: ApplicationError = twin
    return mapped


def _their_kind(error: ApplicationError) -> type[theirs.ModelError]:
    match error:
        case ours.ProviderRateLimited() | ApplicationError(code="provider_queue_full" | "provider_queue_timeout"):
            return theirs.ModelRateLimitError
        case ours.ProviderTimeout():
            return theirs.ModelTimeoutError
        case ours.ProviderAuthentication():
            return theirs.ModelAuthenticationError
        case ours.ProviderRejected(code="context_length_exceeded"):
            return theirs.ContextOverflowError
        case ours.ProviderRejected():
            return theirs.ModelInvalidRequestError
        case ours.ModelNotFound():
            return theirs.ModelNotFoundError
        case ours.StreamTruncated() | ours.ProviderError(code="provider_unreachable" | "provider_connection_lost"):
            return theirs.ModelConnectionError
    return theirs.ModelAPIError


_twins: dict[tuple[type, type], Any] = {}


def _twin(one: type[ApplicationError], other: type[theirs.ModelError]) -> Any:
    """A class that is both, made once."""
    if (one, other) not in _twins:
        _twins[one, other] = type(one.__name__, (one, other), {"__doc__": one.__doc__})
    return _twins[one, other]
