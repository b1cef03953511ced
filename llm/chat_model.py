"""The gateway as a LangChain chat model, so that a graph cannot go around it. Imported when a graph is built."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import aclosing
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, Field

from core.errors import ApplicationError
from llm.binding import Sink, current_binding, telling
from llm.gateway import gateway
from llm.langchain_messages import to_chunk, to_langchain_error, to_message, to_usage, to_wire
from llm.targets import Target
from llm.wire import Accumulator, ChatRequest, Completion, Delta, Usage

T = TypeVar("T")
_NOT_FOR_PROVIDERS = frozenset({"stream", "ls_structured_output_format"})


class RoutedChatModel(BaseChatModel):
    """The run's model, found at each call through `llm.binding`; `target` fixes one outside a run.

    Tokens go to the run's sink as they arrive, whether LangChain streams or not. Raises our errors, which are
    LangChain's as well. In async code call `ainvoke` and `astream`: the synchronous calls would block the loop
    that they wait for, and refuse to.
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    target: Target | None = Field(default=None, exclude=True, repr=False)
    model_name: str | None = Field(default=None, alias="model")
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = Field(default=None, alias="stop_sequences")

    @property
    def _llm_type(self) -> str:
        return "routed"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(ls_provider="routed", ls_model_type="chat")
        if name := kwargs.get("model") or self.model_name:
            params["ls_model_name"] = name
        if (temperature := kwargs.get("temperature", self.temperature)) is not None:
            params["ls_temperature"] = temperature
        if (max_tokens := kwargs.get("max_tokens", self.max_tokens)) is not None:
            params["ls_max_tokens"] = max_tokens
        if stops := stop or self.stop:
            params["ls_stop"] = list(stops)
        return params

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request, target, sink = self._call(messages, stop, kwargs)
        try:
            answer = await (_collect(request, target, sink) if sink else gateway.complete(request, target))
        except ApplicationError as error:
            raise to_langchain_error(error) from error
        metadata = _metadata(answer.finish_reason, answer.model or request.model)
        message = to_message(answer, metadata)
        info = {"finish_reason": answer.finish_reason}
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request, target, sink = self._call(messages, stop, kwargs)
        usage: Usage | None = None
        try:
            async with aclosing(_told(request, target, sink)) as deltas:
                async for delta in deltas:
                    usage = delta.usage or usage
                    finish = delta.finish_reason
                    metadata = _metadata(finish, delta.model or request.model) if finish else {}
                    yield ChatGenerationChunk(message=to_chunk(delta, metadata))
        except ApplicationError as error:
            raise to_langchain_error(error) from error
        if usage is not None:
            yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=to_usage(usage)))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _wait_for(self._agenerate(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        chunks = self._astream(messages, stop, **kwargs)
        try:
            while (chunk := _wait_for(_next(chunks))) is not None:
                yield chunk
        finally:
            _wait_for(_close(chunks))

    def _call(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> tuple[ChatRequest, Target, Sink | None]:
        """What the caller says goes before the model's own fields, and those before the run's defaults."""
        binding = current_binding()
        target = self.target or (binding.target if binding else None)
        if target is None:
            raise RuntimeError("RoutedChatModel has no model: give it a target, or call it inside a run.")
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "stop": stop or self.stop}
        said = {name: value for name, value in {**own, **kwargs}.items() if value is not None}
        params = {**(binding.params if binding else {}), **said}
        model = params.pop("model", None) or self.model_name or target.model
        params = {name: value for name, value in params.items() if name not in _NOT_FOR_PROVIDERS}
        request = ChatRequest(model, to_wire(messages), params)
        return request, target, binding.open_reply(request) if binding and binding.open_reply else None

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """`tool_choice`: a tool's name, "any"/"required"/True, "auto", "none", or OpenAI's object."""
        wire = [tool if _is_wire_tool(tool) else convert_to_openai_tool(tool, strict=strict) for tool in tools]
        names = {tool["function"]["name"] for tool in wire if "function" in tool}
        if tool_choice is True or tool_choice == "any":
            tool_choice = "required"
        elif isinstance(tool_choice, str) and tool_choice in names:
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        if tool_choice:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=wire, **kwargs)

    def with_structured_output(
        self,
        schema: Any,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """`method`: json_schema, json_mode or function_calling."""
        pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
        told = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}
        if method == "function_calling":
            name = convert_to_openai_tool(schema)["function"]["name"]
            model = self.bind_tools([schema], tool_choice=name, strict=strict, **told)
            parser: Any = (
                PydanticToolsParser(tools=[schema], first_tool_only=True)
                if pydantic
                else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
            )
        else:
            model = self.bind(response_format=_response_format(schema, method, strict), **told)
            parser = PydanticOutputParser(pydantic_object=schema) if pydantic else JsonOutputParser()
        return _with_raw(model, parser) if include_raw else model | parser


async def _told(request: ChatRequest, target: Target, sink: Sink | None) -> AsyncGenerator[Delta, None]:
    """The deltas, each told to the sink first."""
    with telling(sink):
        async with aclosing(gateway.stream(request, target)) as deltas:
            async for delta in deltas:
                if sink is not None:
                    await sink(delta)
                yield delta


async def _collect(request: ChatRequest, target: Target, sink: Sink) -> Completion:
    answer = Accumulator()
    async with aclosing(_told(request, target, sink)) as deltas:
        async for delta in deltas:
            answer.add(delta)
    return answer.completion()


def _metadata(finish_reason: str, model: str) -> dict[str, Any]:
    return {"model_name": model, "model_provider": "routed", "finish_reason": finish_reason}


def _is_wire_tool(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool


def _response_format(schema: Any, method: str, strict: bool | None) -> dict[str, Any]:
    if method == "json_mode":
        return {"type": "json_object"}
    function = convert_to_openai_tool(schema, strict=strict)["function"]
    wanted = {"name": function["name"], "schema": function["parameters"]}
    return {"type": "json_schema", "json_schema": wanted if strict is None else {**wanted, "strict": strict}}


def _with_raw(model: Any, parser: Any) -> Runnable[LanguageModelInput, Any]:
    """A parsing error is part of the result, not raised."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


async def _next(chunks: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
    return await anext(chunks, None)


async def _close(chunks: Any) -> None:
    await chunks.aclose()


_starting = threading.Lock()


def _background_loop() -> asyncio.AbstractEventLoop:
    """For synchronous callers outside a run: one loop for the life of the process, as connections belong to a loop."""
    with _starting:
        return _start_background_loop()


@cache
def _start_background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="llm-sync").start()
    return loop


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    """From a thread: on the run's own loop, where its sink lives. The caller's context goes with it."""
    binding = current_binding()
    loop = binding.loop if binding and binding.loop and binding.loop.is_running() else _background_loop()
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is not None:
        work.close()
        raise RuntimeError("This is async code: call ainvoke or astream, which do not block the event loop.")
    return asyncio.run_coroutine_threadsafe(work, loop).result()
