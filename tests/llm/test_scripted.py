"""The deterministic model: the rules of the public contract."""

import asyncio
import json
import time
from contextlib import aclosing
from typing import Any

import pytest

from llm.exceptions import ProviderError, ProviderRateLimited, ProviderRejected, ProviderTimeout, StreamTruncated
from llm.gateway import gateway
from llm.providers.json_sample import Unsatisfiable, sample
from llm.targets import ModelTarget
from llm.wire import ChatRequest, Completion, Delta


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def script(*steps: Any) -> dict[str, Any]:
    return user("#script " + json.dumps(steps))


@pytest.fixture
def ask(scripted: ModelTarget):
    async def ask(*messages: dict[str, Any], **params: Any) -> Completion:
        return await gateway.complete(ChatRequest("default", list(messages), params), scripted)

    return ask


@pytest.fixture
def deltas(scripted: ModelTarget):
    async def deltas(*messages: dict[str, Any], **params: Any) -> list[Delta]:
        async with aclosing(gateway.stream(ChatRequest("default", list(messages), params), scripted)) as stream:
            return [delta async for delta in stream]

    return deltas


async def test_answers_word_by_word(deltas) -> None:
    found = await deltas({"role": "system", "content": "Be nice."}, user("first"), user("good  morning\nworld"))
    assert [delta.text for delta in found[:-1]] == ["You", " said:", " good", "  morning", "\nworld"]
    last = found[-1]
    assert (last.finish_reason, last.usage.prompt_tokens, last.usage.completion_tokens) == ("stop", 6, 5)


async def test_content_parts(ask) -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    assert (await ask(user(parts))).text == "You said: a b"


async def test_no_user_message(ask) -> None:
    assert (await ask({"role": "system", "content": "x"})).text == "You said: "


async def test_say_and_repeat_with_delays(deltas) -> None:
    started = time.monotonic()
    found = await deltas(script({"say": "one two", "delay_ms": 20}, {"repeat": "x", "times": 3, "delay_ms": 10}))
    assert [delta.text for delta in found[:-1]] == ["one", " two", " x", " x", " x"]
    assert found[-1].usage.completion_tokens == 5
    assert time.monotonic() - started >= 0.07


async def test_tool_and_what_follows_its_result(ask) -> None:
    asked = script({"say": "Looking."}, {"tool": "add", "args": {"a": 1}}, {"tool": "sub"}, {"say": "Done."})
    first = await ask(asked)
    assert (first.text, first.finish_reason) == ("Looking.", "tool_calls")
    assert [(call.name, call.arguments) for call in first.tool_calls] == [("add", '{"a":1}')]
    history = [asked, first.message(), {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "1"}]
    second = await ask(*history)
    assert [(call.name, call.arguments) for call in second.tool_calls] == [("sub", "{}")]
    assert second.tool_calls[0].id != first.tool_calls[0].id
    history += [second.message(), {"role": "tool", "tool_call_id": second.tool_calls[0].id, "content": "2"}]
    third = await ask(*history)
    assert (third.text, third.finish_reason) == ("Done.", "stop")


async def test_earlier_scripts_do_not_count(ask) -> None:
    asked = script({"tool": "a"}, {"say": "end"})
    first = await ask(asked)
    result = {"role": "tool", "tool_call_id": "1", "content": "x"}
    again = await ask(asked, first.message(), result, {"role": "assistant", "content": "end"}, asked)
    assert again.tool_calls[0].name == "a"


async def test_script_that_ends_with_a_tool(ask) -> None:
    asked = script({"tool": "a"})
    first = await ask(asked)
    assert (await ask(asked, first.message(), {"role": "tool", "content": "x"})).text == ""


async def test_same_request_same_answer(ask) -> None:
    assert await ask(script({"tool": "a"})) == await ask(script({"tool": "a"}))


async def test_json_step(ask) -> None:
    assert (await ask(script({"json": {"a": "b c"}}), response_format={"type": "json_object"})).text == '{"a":"b c"}'


async def test_failures(deltas, settings) -> None:
    settings.LLM_ATTEMPTS = 1
    with pytest.raises(ProviderRateLimited) as limited:
        await deltas(script({"fail": 429, "retry_after": 7}))
    assert limited.value.retry_after == 7
    with pytest.raises(ProviderError) as failed:
        await deltas(script({"fail": 500}))
    assert failed.value.status == 502
    with pytest.raises(StreamTruncated):
        await deltas(script({"say": "half"}, {"fail": "cut"}))
    settings.LLM_FIRST_TOKEN_TIMEOUT = 0.1
    with pytest.raises(ProviderTimeout):
        await deltas(script({"fail": "hang"}))


async def test_hang_is_cancellable(deltas) -> None:
    task = asyncio.create_task(deltas(script({"fail": "hang"})))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("#script [", "script", "line 1 column 3"),
        ("#script", "script", "no JSON"),
        ('#script {"say": "x"}', "script", "array"),
        ('#script [{"say": "x"}] more', "script", "Extra data"),
        ('#script [{"say": "x"}, {"shout": "x"}]', "script.1", "Step 2 must have exactly one"),
        ('#script [{"say": "x", "tool": "y"}]', "script.0", "exactly one"),
        ("#script [7]", "script.0", "exactly one"),
        ('#script [{"say": 7}]', "script.0.say", "Expected `str`"),
        ('#script [{"say": "x", "loud": true}]', "script.0", "unknown field `loud`"),
        ('#script [{"repeat": "x", "times": -1}]', "script.0.times", ">= 0"),
        ('#script [{"repeat": "x", "times": true}]', "script.0.times", "Expected `int`"),
        ('#script [{"say": "x", "delay_ms": 1e9}]', "script.0.delay_ms", "60000"),
        ('#script [{"tool": "x", "args": []}]', "script.0.args", "Expected `object`"),
        ('#script [{"fail": 418}]', "script.0.fail", "Invalid"),
        ("#script " + "[" * 100_000, "script", "no JSON"),
    ],
)
async def test_malformed_scripts_name_the_place(ask, text: str, path: str, message: str) -> None:
    with pytest.raises(ProviderRejected) as caught:
        await ask(user(text))
    assert caught.value.status == 400
    assert message in caught.value.message
    assert caught.value.details == [{"path": path, "code": "invalid_script", "message": caught.value.message}]


@pytest.mark.parametrize(
    ("stop", "text"),
    [("two", "one "), (["zzz", "e t"], "on"), (["one"], ""), ("", "one two three"), ([], "one two three")],
)
async def test_stop_sequences(ask, stop: Any, text: str) -> None:
    answer = await ask(script({"say": "one two"}, {"say": "three"}), stop=stop)
    assert (answer.text, answer.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    ("limit", "text", "finish"), [(2, "one two", "length"), (3, "one two three", "stop"), (9, "one two three", "stop")]
)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_token_limit(ask, name: str, limit: int, text: str, finish: str) -> None:
    answer = await ask(script({"say": "one two three"}), **{name: limit})
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == (text, finish, len(text.split()))


TOOLS = [
    {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}},
    {
        "type": "function",
        "function": {
            "name": "b",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]},
        },
    },
]


@pytest.mark.parametrize(
    ("choice", "call"),
    [("required", ("a", "{}")), ({"type": "function", "function": {"name": "b"}}, ("b", '{"n":3}')), ("auto", None)],
)
async def test_forced_tool(ask, choice: Any, call: tuple[str, str] | None) -> None:
    answer = await ask(user("x"), tools=TOOLS, tool_choice=choice)
    assert [(c.name, c.arguments) for c in answer.tool_calls] == ([call] if call else [])
    after = await ask(user("x"), answer.message(), {"role": "tool", "content": "r"}, tools=TOOLS, tool_choice=choice)
    assert call is None or after.text == "You said: x"


async def test_response_format(ask) -> None:
    schema = {"type": "object", "properties": {"s": {"type": "string"}, "o": {}}, "required": ["s"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert (await ask(user("x"), response_format=wanted)).text == '{"s":""}'
    assert (await ask(user("x"), response_format={"type": "json_object"})).text == "{}"
    assert (await ask(user("x"), response_format={"type": "text"})).text == "You said: x"
    impossible = {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "^a"}}}
    with pytest.raises(ProviderRejected, match="pattern"):
        await ask(user("x"), response_format=impossible)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({}, None),
        ({"const": 3}, 3),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": ["string", "null"]}, ""),
        ({"type": "string", "minLength": 3}, "xxx"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "boolean"}, False),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -5, "multipleOf": 4}, -8),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "array", "minItems": 2, "items": {"type": "boolean"}}, [False, False]),
        ({"type": "array", "minItems": 2, "prefixItems": [{"const": 1}], "items": {"const": 2}}, [1, 2]),
        ({"minProperties": 1, "properties": {"a": {"const": 1}}}, {"a": 1}),
        ({"anyOf": [{"type": "string", "pattern": "x"}, {"type": "null"}]}, None),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, 1),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": None}),
        (
            {"$defs": {"N": {"properties": {"next": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N", "type": "object"},
            {},
        ),
        ({"$defs": {"S": {"type": "string", "enum": ["x"]}}, "$ref": "#/$defs/S", "description": "d"}, "x"),
    ],
)
def test_minimal_documents(schema: dict[str, Any], document: Any) -> None:
    found = sample(schema)
    required = schema.get("allOf")
    assert found == document or (required and set(found) == {"a", "b"})


FORK = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}
WIDE = {"type": "object", "required": list("abcdefgh"), "additionalProperties": {"$ref": "#"}}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string", "pattern": "a"},
        {"type": "color"},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "array", "minItems": 2, "uniqueItems": True},
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        {"type": "string", "minLength": 10**9},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/none"},
        {"type": 7},
        {"properties": 7, "required": ["a"]},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        FORK,
        WIDE,
    ],
)
def test_impossible_schemas_end_soon(schema: Any) -> None:
    started = time.monotonic()
    with pytest.raises(Unsatisfiable):
        sample(schema)
    assert time.monotonic() - started < 2
