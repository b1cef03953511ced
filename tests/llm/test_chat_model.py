"""The gateway as LangChain sees it: bound by run, told to the run's sink, failing in both languages."""

import asyncio
import json
import subprocess
import sys
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core import exceptions as theirs
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from core.errors import RateLimited
from llm import exceptions as ours
from llm.binding import current_binding, use_binding
from llm.chat_model import RoutedChatModel
from llm.door import circuits
from llm.langchain_messages import EXTRA, to_chunk, to_langchain_error, to_message, to_usage, to_wire
from llm.targets import ModelTarget
from llm.wire import Completion, Delta, ToolCall, ToolCallDelta, Usage
from tests.llm.upstream import WORDS, Upstream

TEXT = "".join(WORDS)
MODEL = RoutedChatModel()


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def graph_of(node: Any) -> Any:
    """Compiled once, used by every run."""
    return StateGraph(State).add_node("say", node).add_edge(START, "say").add_edge("say", END).compile()


async def reply(state: State) -> Any:
    return {"messages": [await MODEL.ainvoke(state["messages"])]}


def reply_in_a_thread(state: State) -> Any:
    return {"messages": [MODEL.invoke(state["messages"])]}


async def reply_streaming(state: State) -> Any:
    whole = None
    async for chunk in MODEL.astream(state["messages"]):
        whole = chunk if whole is None else whole + chunk
    return {"messages": [whole]}


def script(*steps: Any) -> str:
    return "#script " + json.dumps(steps)


class Sink:
    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.loops: set[Any] = set()

    async def __call__(self, delta: Delta) -> None:
        self.loops.add(asyncio.get_running_loop())
        self.deltas.append(delta)

    @property
    def text(self) -> str:
        return "".join(delta.text or "" for delta in self.deltas)


@pytest.mark.parametrize("node", [reply, reply_in_a_thread, reply_streaming])
async def test_tokens_go_to_the_run_s_sink(scripted: ModelTarget, node: Any) -> None:
    sink = Sink()
    with use_binding(scripted, open_reply=lambda _: sink):
        state = await graph_of(node).ainvoke({"messages": [HumanMessage("good morning")]})
    message = state["messages"][-1]
    assert message.text == sink.text == "You said: good morning"
    assert [delta.text for delta in sink.deltas[:-1]] == ["You", " said:", " good", " morning"]
    assert sink.loops == {asyncio.get_running_loop()}
    assert message.usage_metadata == {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}
    assert message.response_metadata["finish_reason"] == "stop"


async def test_runs_of_one_graph_do_not_mix(scripted: ModelTarget) -> None:
    graph = graph_of(reply)

    async def run(number: int) -> str:
        sink = Sink()
        with use_binding(scripted, open_reply=lambda _: sink):
            await graph.ainvoke({"messages": [HumanMessage(f"run {number}")]})
        return sink.text

    assert await asyncio.gather(*map(run, range(100))) == [f"You said: run {number}" for number in range(100)]
    assert current_binding() is None


async def test_langgraph_s_own_streaming_tells_each_token_once(scripted: ModelTarget) -> None:
    sink = Sink()
    with use_binding(scripted, open_reply=lambda _: sink):
        told = graph_of(reply).astream({"messages": [HumanMessage("a b")]}, stream_mode="messages")
        texts = [chunk.text async for chunk, _ in told if chunk.text]
    assert texts == ["You", " said:", " a", " b"]
    assert sink.text == "You said: a b"


async def test_agent_with_tools(scripted: ModelTarget) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    agent = create_agent(MODEL, [add], system_prompt="Be brief.")
    asked = script({"tool": "add", "args": {"a": 1, "b": 2}}, {"say": "Three."})
    sink = Sink()
    with use_binding(scripted, open_reply=lambda _: sink):
        state = await agent.ainvoke({"messages": [HumanMessage(asked)]})
    kinds = [type(message) for message in state["messages"]]
    assert kinds == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert (state["messages"][2].content, state["messages"][3].text) == ("3", "Three.")
    assert [delta.finish_reason for delta in sink.deltas if delta.finish_reason] == ["tool_calls", "stop"]


async def test_what_is_asked_goes_before_the_run_s_defaults(target, upstream: Upstream) -> None:
    model = RoutedChatModel(temperature=0.1, stop=["x"])
    with use_binding(target("hello"), params={"temperature": 0.9, "seed": 7, "top_p": 0.5}):
        answer = await model.ainvoke("Hi", top_p=0.2)
    assert answer.text == TEXT
    sent = upstream.calls[0]
    assert (sent["model"], sent["temperature"], sent["seed"], sent["top_p"], sent["stop"]) == (
        "hello",
        0.1,
        7,
        0.2,
        ["x"],
    )


async def test_nothing_bound_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="inside a run"):
        await MODEL.ainvoke("Hi")


async def test_blocking_calls_in_async_code_are_refused(scripted: ModelTarget) -> None:
    with use_binding(scripted), pytest.raises(RuntimeError, match="ainvoke"):
        MODEL.invoke("Hi")


def test_sync_calls_outside_a_loop(scripted: ModelTarget) -> None:
    model = RoutedChatModel(target=scripted)
    assert model.invoke("Hi").text == "You said: Hi"
    chunks = model.stream("Hi")
    assert next(chunks).text == "You"
    chunks.close()
    assert "".join(chunk.text for chunk in model.stream("a b")) == "You said: a b"


async def test_usage_that_is_repeated_is_not_added_up(target) -> None:
    model = RoutedChatModel(target=target("hello"))
    whole = None
    async for chunk in model.astream("Hi"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.usage_metadata == {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


async def test_structured_output(scripted: ModelTarget) -> None:
    schema = {"title": "Point", "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    model = RoutedChatModel(target=scripted)
    assert await model.with_structured_output(schema).ainvoke("x") == {"x": 0}
    assert await model.with_structured_output(schema, method="function_calling").ainvoke("x") == {"x": 0}
    assert await model.with_structured_output(schema, method="json_mode").ainvoke("x") == {}
    raw = await model.with_structured_output(schema, include_raw=True).ainvoke(script({"say": "no json"}))
    assert (raw["parsed"], raw["raw"].text) == (None, "no json")
    assert raw["parsing_error"] is not None


@pytest.mark.parametrize(
    ("model", "mine", "langchain"),
    [
        ("status:429", ours.ProviderRateLimited, theirs.ModelRateLimitError),
        ("status:401", ours.ProviderAuthentication, theirs.ModelAuthenticationError),
        ("status:400", ours.ProviderRejected, theirs.ModelInvalidRequestError),
        ("context", ours.ProviderRejected, theirs.ContextOverflowError),
        ("status:404", ours.ModelNotFound, theirs.ModelNotFoundError),
        ("status:500", ours.ProviderError, theirs.ModelAPIError),
        ("status:408", ours.ProviderTimeout, theirs.ModelTimeoutError),
        ("cut", ours.StreamTruncated, theirs.ModelConnectionError),
    ],
)
async def test_errors_are_ours_and_langchain_s(target, model: str, mine: Any, langchain: Any) -> None:
    routed = RoutedChatModel(target=target(model))
    with pytest.raises(mine) as streamed:
        _ = [chunk async for chunk in routed.astream("Hi")]
    assert isinstance(streamed.value, langchain)
    circuits.forget_all()  # a refused credential opens at once
    with pytest.raises(langchain) as caught:
        await routed.ainvoke("Hi")
    assert isinstance(caught.value, mine)
    assert caught.value.body()["error"]["message"]


def test_a_full_queue_is_a_rate_limit_to_langchain() -> None:
    twin = to_langchain_error(RateLimited("Full.", code="provider_queue_full", retry_after=2))
    assert isinstance(twin, theirs.ModelRateLimitError)
    assert (twin.status, twin.code, twin.retry_after) == (429, "provider_queue_full", 2)


def test_an_error_keeps_all_that_it_says() -> None:
    error = ours.ProviderRateLimited("Wait.", retry_after=3, details=[{"path": "x"}], retryable=False, param="p")
    twin = to_langchain_error(error)
    assert (twin.message, twin.retry_after, twin.details, twin.param) == ("Wait.", 3, [{"path": "x"}], "p")
    assert (twin.retryable, twin.is_retryable) == (False, False)


def test_messages_on_the_wire() -> None:
    calls = [{"id": "1", "name": "add", "args": {"a": "ü"}}]
    bad = [{"id": "2", "name": "add", "args": "{", "error": "no JSON", "type": "invalid_tool_call"}]
    said = AIMessage("", tool_calls=calls, invalid_tool_calls=bad, additional_kwargs={EXTRA: {"1": {"s": "x"}}})
    wire = to_wire(
        [HumanMessage("hi", name="ann"), said, ToolMessage("3", tool_call_id="1"), AIMessage("ok", name="bot")]
    )
    assert wire[0] == {"role": "user", "content": "hi", "name": "ann"}
    first, second = wire[1]["tool_calls"]
    assert wire[1]["content"] is None
    assert first["function"] == {"name": "add", "arguments": '{"a":"ü"}'}
    assert first["extra_content"] == {"s": "x"}
    assert second["function"]["arguments"] == "{"
    assert wire[2] == {"role": "tool", "tool_call_id": "1", "content": "3"}
    assert wire[3] == {"role": "assistant", "content": "ok", "name": "bot"}


def test_answers_as_messages() -> None:
    calls = [ToolCall("1", "add", '{"a":1}', {"s": "x"}), ToolCall("2", "add", "{")]
    details = {"cached_tokens": 2}, {"reasoning_tokens": 1}
    usage = Usage(3, 4, 0, *details)
    message = to_message(Completion(reasoning="hm", refusal="no", tool_calls=calls, usage=usage), {})
    assert [call["args"] for call in message.tool_calls] == [{"a": 1}]
    assert [call["args"] for call in message.invalid_tool_calls] == ["{"]
    assert message.additional_kwargs == {"reasoning_content": "hm", "refusal": "no", EXTRA: {"1": {"s": "x"}}}
    assert message.usage_metadata == {
        "input_tokens": 3,
        "output_tokens": 4,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 2},
        "output_token_details": {"reasoning": 1},
    }
    assert to_usage(None) is None
    chunk = to_chunk(Delta(reasoning="hm", tool_calls=[ToolCallDelta(0, "1", "add", "{", {"s": "x"})]), {})
    assert chunk.additional_kwargs == {"reasoning_content": "hm", EXTRA: {"1": {"s": "x"}}}
    assert chunk.tool_call_chunks[0]["args"] == "{"


def test_importing_the_app_imports_no_langchain() -> None:
    """Nor aiohttp: both wait for their first use."""
    code = (
        "import django, sys; django.setup(); "
        "import llm.services.providers, llm.gateway, llm.binding, llm.api.urls; "
        "print([name for name in sys.modules if name in ('langchain_core', 'langgraph', 'aiohttp', 'xllamacpp')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
