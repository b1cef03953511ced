import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from core.errors import ApplicationError
from templates_app.langchain import RunTool, last_ai_message, use_toolbox
from tests.templates_app.fakes import PlayedToolbox, tool


async def test_a_tool_answers_a_call_with_a_tool_message_and_arguments_with_text() -> None:
    toolbox = PlayedToolbox("look")
    look = RunTool.of(tool("look"))
    with use_toolbox(toolbox):
        message = await look.ainvoke({"type": "tool_call", "id": "call_9", "name": "look", "args": {}})
        text = await look.ainvoke({})
    assert message == ToolMessage(content="done", tool_call_id="call_9", name="look")
    assert text == "done"
    assert toolbox.calls[0] == "call_9"


async def test_a_nested_runs_toolbox_ends_with_it() -> None:
    outer, inner = PlayedToolbox("look"), PlayedToolbox("look")
    look = RunTool.of(tool("look"))
    with use_toolbox(outer):
        with use_toolbox(inner):
            await look.ainvoke({})
        await look.ainvoke({})
    assert (len(outer.calls), len(inner.calls)) == (1, 1)


async def test_outside_a_run_a_tool_has_no_toolbox() -> None:
    with pytest.raises(LookupError):
        await RunTool.of(tool("look")).ainvoke({})


def test_a_tool_is_asynchronous_only() -> None:
    with pytest.raises(NotImplementedError):
        RunTool.of(tool("look")).invoke({})


def test_the_answer_is_the_last_ai_message() -> None:
    said = AIMessage("b", response_metadata={"finish_reason": "length"})
    found = last_ai_message([AIMessage("a"), said, HumanMessage("c")])
    assert (found.message, found.finish_reason) == ({"role": "assistant", "content": "b"}, "length")


def test_tool_calls_are_told_in_openais_shape() -> None:
    call = {"id": "call_1", "name": "book", "args": {"n": 1}, "type": "tool_call"}
    found = last_ai_message([AIMessage("", tool_calls=[call])])
    assert found.finish_reason == "tool_calls"
    assert found.message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "book", "arguments": '{"n": 1}'}}
    ]


def test_a_graph_without_an_ai_message_has_no_answer() -> None:
    with pytest.raises(ApplicationError) as missing:
        last_ai_message([HumanMessage("c")])
    assert missing.value.code == "no_answer"
