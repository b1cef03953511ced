"""Anthropic's Messages API, against a local server that plays it."""

from typing import Any

import pytest

from llm.exceptions import BadAnswer, ProviderError, ProviderRateLimited, ProviderRejected, StreamTruncated
from llm.targets import ModelTarget
from llm.wire import Usage
from tests.llm.metering import RecordingMeter
from tests.llm.playing import Player, ask, target_of

START = {
    "type": "message_start",
    "message": {
        "model": "claude-real",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "output_tokens": 1,
        },
    },
}
STOP = {"type": "message_stop"}


def opens(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def adds(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def closes(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ends(reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9, **usage}}


TEXT = [opens(0, type="text", text=""), adds(0, "text_delta", text="Hé"), adds(0, "text_delta", text="llo"), closes(0)]


@pytest.fixture(autouse=True)
def _hello(player: Player) -> None:
    player.says(START, {"type": "ping"}, *TEXT, ends("end_turn"), STOP, names=True)


@pytest.fixture
def target(player: Player) -> ModelTarget:
    return target_of("anthropic", player.url)


async def test_answer_and_usage(player: Player, target: ModelTarget) -> None:
    answer = await ask(target)
    assert (answer.text, answer.finish_reason, answer.model) == ("Héllo", "stop", "claude-real")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (28, 9, 37)
    assert answer.usage.prompt_tokens_details == {"cached_tokens": 20, "cache_creation_tokens": 3}
    assert player.paths == ["/v1/messages"]
    assert (player.headers[0]["x-api-key"], player.headers[0]["anthropic-version"]) == ("sk-test-key", "2023-06-01")


async def test_the_address_may_end_in_v1(player: Player) -> None:
    await ask(target_of("anthropic", f"{player.url}/v1/"))
    assert player.paths == ["/v1/messages"]


async def test_conversation_in_its_words(player: Player, target: ModelTarget) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    broken = {"id": "t:2", "type": "function", "function": {"name": "add", "arguments": "{oops"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    await ask(
        target,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            {"role": "assistant", "content": None, "tool_calls": [call, broken]},
            {"role": "tool", "tool_call_id": "t1", "content": "3"},
            {"role": "tool", "tool_call_id": "t:2", "content": "no"},
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": "It is "},
        ],
    )
    sent = player.bodies[0]
    assert sent["system"] == "Be brief.\n\nBe kind."
    assert sent["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "t_2", "name": "add", "input": {"invalid_arguments": "{oops"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3"}]},
                {"type": "tool_result", "tool_use_id": "t_2", "content": [{"type": "text", "text": "no"}]},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
                },
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "It is"}]},
    ]


async def test_parameters_in_its_words(player: Player) -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    schema = {
        "type": "object",
        "properties": {"minimum": {"type": "integer", "minimum": 1}},
        "required": ["minimum"],
        "$schema": "x",
    }
    await ask(
        target_of("anthropic", player.url, max_tokens=77, beta="context-1m-2025-08-07"),
        stop="END",
        temperature=1.6,
        top_p=0.5,
        seed=1,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "add"}},
        parallel_tool_calls=False,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    sent = player.bodies[0]
    assert (sent["max_tokens"], sent["stop_sequences"], sent["temperature"], sent["top_p"]) == (77, ["END"], 1, 0.5)
    assert sent["tools"] == [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}]
    assert sent["tool_choice"] == {"type": "tool", "name": "add", "disable_parallel_tool_use": True}
    assert sent["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"minimum": {"type": "integer", "description": '{"minimum":1}'}},
                "required": ["minimum"],
                "additionalProperties": False,
            },
        },
    }
    assert "seed" not in sent
    assert player.headers[0]["anthropic-beta"] == "context-1m-2025-08-07"
    await ask(target_of("anthropic", player.url), max_completion_tokens=5, response_format={"type": "json_object"})
    assert (player.bodies[1]["max_tokens"], "JSON" in player.bodies[1]["system"]) == (5, True)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(None, {"type": "auto"}), ("auto", {"type": "auto"}), ("none", {"type": "none"}), ("required", {"type": "any"})],
)
async def test_tool_choice(player: Player, target: ModelTarget, choice: Any, expected: dict[str, Any]) -> None:
    await ask(target, tools=[{"type": "function", "function": {"name": "add"}}], tool_choice=choice)
    assert player.bodies[0]["tool_choice"] == expected


async def test_thinking_goes_back_with_the_call_that_followed_it(player: Player, target: ModelTarget) -> None:
    player.says(
        START,
        opens(0, type="thinking", thinking=""),
        adds(0, "thinking_delta", thinking="Hm, "),
        adds(0, "thinking_delta", thinking="tools."),
        adds(0, "signature_delta", signature="sig"),
        closes(0),
        opens(1, type="redacted_thinking", data="xyz"),
        closes(1),
        opens(2, type="text", text="One moment."),
        closes(2),
        opens(3, type="tool_use", id="t1", name="add", input={}),
        adds(3, "input_json_delta", partial_json=""),
        adds(3, "input_json_delta", partial_json='{"a":'),
        adds(3, "input_json_delta", partial_json=" 1}"),
        closes(3),
        opens(5, type="tool_use", id="t2", name="now", input={}),
        closes(5),
        ends("tool_use", output_tokens_details={"thinking_tokens": 4}),
        STOP,
    )
    answer = await ask(target)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("One moment.", "Hm, tools.", "tool_calls")
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("t1", "add", '{"a": 1}'),
        ("t2", "now", "{}"),
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details == {"reasoning_tokens": 4}
    results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in answer.tool_calls]
    await ask(target, [{"role": "user", "content": "Go"}, answer.message(), *results])
    assert [block["type"] for block in player.bodies[1]["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert player.bodies[1]["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "Hm, tools.",
        "signature": "sig",
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("refusal", "content_filter"),
    ],
)
async def test_finish_reasons(player: Player, target: ModelTarget, reason: str, finish: str) -> None:
    player.says(START, *TEXT, ends(reason), STOP)
    assert (await ask(target)).finish_reason == finish


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([START, *TEXT], StreamTruncated),
        ([START, *TEXT[:2]], StreamTruncated),
        ([START, TEXT[0], b'data: {"type": "content_block\n\n'], BadAnswer),
        (
            [START, *TEXT[:2], {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}],
            ProviderRateLimited,
        ),
        ([START, *TEXT[:2], {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}], ProviderError),
        ([START, *TEXT[:2], {"type": "error", "error": {"type": "invalid_request_error"}}], ProviderRejected),
    ],
)
async def test_answers_without_an_end(player: Player, target: ModelTarget, events: list[Any], error: type) -> None:
    player.says(*events, names=not any(isinstance(event, bytes) for event in events))
    with pytest.raises(error) as caught:
        await ask(target)
    assert type(caught.value) is error


async def test_cut_utf8_is_replaced(player: Player, target: ModelTarget) -> None:
    cut = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\xc3"}}\n\n'
    player.says(START, TEXT[0], cut, ends("end_turn"), STOP)
    assert (await ask(target)).text == "a�"


async def test_a_bottomless_schema_is_refused(player: Player, target: ModelTarget) -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(ProviderRejected, match="deeply"):
        await ask(target, response_format={"type": "json_schema", "json_schema": {"schema": schema}})


async def test_audio_and_logprobs_are_refused(player: Player, target: ModelTarget) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    with pytest.raises(ProviderRejected, match="audio"):
        await ask(target, [{"role": "user", "content": [audio]}])
    with pytest.raises(ProviderRejected, match="logprobs"):
        await ask(target, logprobs=True)
    assert player.bodies == []


async def test_what_was_counted_first_is_known_of_an_answer_cut_short(
    player: Player, target: ModelTarget, meter: RecordingMeter
) -> None:
    player.says(START, *TEXT[:2])
    with pytest.raises(StreamTruncated):
        await ask(target)
    assert meter.calls[-1].outcome.usage == Usage(28, 0, 28, {"cached_tokens": 20, "cache_creation_tokens": 3})


async def test_counts_alone_begin_no_answer(
    player: Player, target: ModelTarget, meter: RecordingMeter, settings
) -> None:
    """The call is tried again, and its caller hears nothing of the first try."""
    settings.LLM_ATTEMPTS = 2
    player.says(START)
    with pytest.raises(StreamTruncated):
        await ask(target)
    assert [call.outcome.first_token_ms for call in meter.calls] == [None, None]
    assert all(call.outcome.usage for call in meter.calls)
