"""Cohere's chat, version 2, against a local server that plays it."""

from typing import Any

import pytest

from llm.exceptions import BadAnswer, ProviderError, ProviderRejected, ProviderTimeout, StreamTruncated
from llm.targets import ModelTarget
from tests.llm.playing import Player, ask, target_of

START = {
    "type": "message-start",
    "id": "x",
    "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
}


def content(**said: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": said}}}


def ends(reason: str) -> dict[str, Any]:
    usage = {
        "billed_units": {"input_tokens": 5.0, "output_tokens": 3.0},
        "tokens": {"input_tokens": 71.0, "output_tokens": 4.0},
        "cached_tokens": 2,
    }
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}


HELLO = [
    START,
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    content(text="Hé"),
    content(text="llo"),
    {"type": "content-end", "index": 0},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}
    for name in ("add", "sub")
]


@pytest.fixture(autouse=True)
def _hello(player: Player) -> None:
    player.says(*HELLO, ends("COMPLETE"), names=True)


@pytest.fixture
def target(player: Player) -> ModelTarget:
    return target_of("cohere", player.url)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v2/"])
async def test_answer_and_usage(player: Player, ending: str) -> None:
    """What is billed is what counts."""
    answer = await ask(target_of("cohere", player.url + ending))
    assert (answer.text, answer.finish_reason) == ("Héllo", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 3, 8)
    assert answer.usage.prompt_tokens_details == {"cached_tokens": 2}
    assert player.paths == ["/v2/chat"]
    assert player.headers[0]["Authorization"] == "Bearer sk-test-key"


async def test_request_in_its_words(player: Player, target: ModelTarget) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}, "extra_content": {"x": 1}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    await ask(
        target,
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image], "name": "me"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "3"},
        ],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "sub"}},
        stop="END",
        top_p=1,
        seed=1,
        max_completion_tokens=9,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    )
    sent = player.bodies[0]
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "3"},
    ]
    assert (sent["tools"], sent["tool_choice"]) == ([TOOLS[1]], "REQUIRED")
    assert (sent["stop_sequences"], sent["p"], sent["seed"], sent["max_tokens"]) == (["END"], 0.99, 1, 9)
    assert sent["response_format"] == {"type": "json_object", "json_schema": SCHEMA}


@pytest.mark.parametrize(("choice", "expected"), [("auto", None), ("required", "REQUIRED"), ("none", "NONE")])
async def test_tool_choice(player: Player, target: ModelTarget, choice: str, expected: str | None) -> None:
    await ask(target, tools=TOOLS, tool_choice=choice)
    assert (player.bodies[0]["tools"], player.bodies[0].get("tool_choice")) == (TOOLS, expected)


async def test_calls_and_thoughts(player: Player, target: ModelTarget) -> None:
    def call(kind: str, index: int, **part: Any) -> dict[str, Any]:
        return {"type": f"tool-call-{kind}", "index": index, "delta": {"message": {"tool_calls": part}}}

    player.says(
        START,
        content(thinking="Hm. "),
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I add."}}},
        call("start", 0, id="c0", type="function", function={"name": "add", "arguments": ""}),
        call("delta", 0, function={"arguments": '{"a":'}),
        call("delta", 0, function={"arguments": "1}"}),
        {"type": "tool-call-end", "index": 0},
        call("start", 1, id="c1", type="function", function={"name": "sub", "arguments": "{}"}),
        ends("TOOL_CALL"),
    )
    answer = await ask(target)
    assert (answer.reasoning, answer.finish_reason) == ("Hm. I add.", "tool_calls")
    assert [(each.id, each.name, each.arguments) for each in answer.tool_calls] == [
        ("c0", "add", '{"a":1}'),
        ("c1", "sub", "{}"),
    ]


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (HELLO, StreamTruncated),
        ([*HELLO, b"data: {oops\n\n"], BadAnswer),
        ([*HELLO, ends("ERROR")], ProviderError),
        ([*HELLO, ends("TIMEOUT")], ProviderTimeout),
    ],
)
async def test_answers_without_an_end(player: Player, target: ModelTarget, events: list[Any], error: type) -> None:
    player.says(*events)
    with pytest.raises(error) as caught:
        await ask(target)
    assert type(caught.value) is error


async def test_files_are_refused(player: Player, target: ModelTarget) -> None:
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}
    with pytest.raises(ProviderRejected, match="text and images"):
        await ask(target, [{"role": "user", "content": [file]}])
