"""Gemini's generateContent, against a local server that plays it."""

from typing import Any

import pytest

from llm.exceptions import BadAnswer, ProviderError, ProviderRateLimited, ProviderRejected, StreamTruncated
from llm.targets import ModelTarget
from tests.llm.metering import RecordingMeter
from tests.llm.playing import Player, ask, target_of

COUNTS = {
    "promptTokenCount": 5,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 7,
    "cachedContentTokenCount": 2,
    "totalTokenCount": 15,
}


def chunk(*parts: dict[str, Any], finish: str | None = None, **extra: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-real", **extra}


HELLO = [chunk({"text": "Hé"}, usageMetadata={"promptTokenCount": 5}), chunk({"text": "llo"})]
END = chunk(finish="STOP", usageMetadata=COUNTS)


@pytest.fixture(autouse=True)
def _hello(player: Player) -> None:
    player.says(*HELLO, END)


@pytest.fixture
def target(player: Player) -> ModelTarget:
    return target_of("google", player.url, "gemini-3-pro")


async def test_answer_and_usage(player: Player, target: ModelTarget) -> None:
    answer = await ask(target)
    assert (answer.text, answer.finish_reason, answer.model) == ("Héllo", "stop", "gemini-real")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 10, 15)
    assert answer.usage.prompt_tokens_details == {"cached_tokens": 2}
    assert answer.usage.completion_tokens_details == {"reasoning_tokens": 7}
    assert player.paths == ["/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"]
    assert player.headers[0]["x-goog-api-key"] == "sk-test-key"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-3-pro", "/v1beta/models/gemini-3-pro:"),
        ("tunedModels/mine", "/v1beta/tunedModels/mine:"),
        ("../../v1/files", "/v1beta/models/..%2F..%2Fv1%2Ffiles:"),
        ("a?b", "/v1beta/models/a%3Fb:"),
    ],
)
async def test_no_model_leads_to_another_path(player: Player, model: str, path: str) -> None:
    await ask(target_of("google", f"{player.url}/v1beta", model))
    assert player.paths[0].startswith(f"{path}streamGenerateContent")


async def test_finish_in_every_chunk_ends_nothing(player: Player, target: ModelTarget) -> None:
    player.says(*[chunk({"text": word}, finish="STOP") for word in ("a", "b", "c")])
    answer = await ask(target)
    assert (answer.text, answer.finish_reason) == ("abc", "stop")


async def test_only_the_end_of_the_stream_is_the_end(
    player: Player, target: ModelTarget, meter: RecordingMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a pause after a finish is, nor a connection that breaks."""
    monkeypatch.setattr("llm.providers.http.LAST_WORD_SECONDS", 0.05)
    player.says(*[chunk({"text": word}, finish="STOP", usageMetadata=COUNTS) for word in ("a", "b", "c")])
    player.pause = 0.1
    assert (await ask(target)).text == "abc"
    player.pause, player.cut = 0.0, True
    with pytest.raises(StreamTruncated):
        await ask(target)
    cut = meter.calls[-1].outcome
    assert (cut.finish_reason, cut.usage and cut.usage.prompt_tokens) == ("", 5)


async def test_conversation_in_its_words(player: Player, target: ModelTarget) -> None:
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
        for n, name in enumerate(("add", "sub"))
    ]
    calls[0]["extra_content"] = {"google": {"thought_signature": "sig"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?x=1"}}
    audio = {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}}
    await ask(
        target,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image, linked, audio]},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c0", "content": '{"sum": 2}'},
            {"role": "tool", "tool_call_id": "c1", "content": "none"},
        ],
    )
    sent = player.bodies[0]
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert sent["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"fileData": {"fileUri": "https://example.com/a.webp?x=1", "mimeType": "image/webp"}},
                {"inlineData": {"mimeType": "audio/mp3", "data": "BBBB"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "sig"},
                {"functionCall": {"name": "sub", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "add", "response": {"sum": 2}}},
                {"functionResponse": {"name": "sub", "response": {"result": "none"}}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("model", "signature"), [("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-pro", None)]
)
async def test_a_call_of_another_model(player: Player, model: str, signature: str | None) -> None:
    """After a change of provider in mid-conversation there is no signature to give back."""
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    asked = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    await ask(target_of("google", player.url, model), asked)
    assert player.bodies[0]["contents"][1]["parts"][0].get("thoughtSignature") == signature


async def test_parameters_in_its_words(player: Player, target: ModelTarget) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    await ask(
        target,
        stop=["END"],
        temperature=1.6,
        top_p=0.5,
        seed=2**40 + 1,
        max_tokens=9,
        reasoning_effort="low",
        tools=[{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": schema}}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    sent = player.bodies[0]
    assert sent["generationConfig"] == {
        "temperature": 1.6,
        "topP": 0.5,
        "seed": 1,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
        "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
    }
    assert sent["tools"] == [
        {"functionDeclarations": [{"name": "add", "description": "Adds.", "parametersJsonSchema": schema}]}
    ]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}}
    await ask(target_of("google", player.url, "gemini-2.5-flash"), reasoning_effort="none")
    thinking = player.bodies[1]["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingBudget": 0, "includeThoughts": False}


async def test_calls_thoughts_and_signatures(player: Player, target: ModelTarget) -> None:
    player.says(
        chunk({"text": "Hm.", "thought": True}),
        chunk({"text": "Now"}, {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "sig"}),
        chunk({"functionCall": {"name": "now", "id": "their-id"}}, finish="STOP"),
    )
    answer = await ask(target)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Now", "Hm.", "tool_calls")
    first, second = answer.tool_calls
    assert (first.name, first.arguments, second.id, second.arguments) == ("add", '{"a":1}', "their-id", "{}")
    assert first.id.startswith("call_")
    assert first.extra_content == {"google": {"thought_signature": "sig"}}
    await ask(target, [{"role": "user", "content": "Go"}, answer.message()])
    assert player.bodies[1]["contents"][1]["parts"][1]["thoughtSignature"] == "sig"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"), ("STOP", "stop")],
)
async def test_finish_reasons(player: Player, target: ModelTarget, reason: str, finish: str) -> None:
    player.says(*HELLO, chunk(finish=reason))
    assert (await ask(target)).finish_reason == finish


@pytest.mark.parametrize(
    ("events", "error", "code"),
    [
        (HELLO, StreamTruncated, "provider_stream_truncated"),
        ([HELLO[0], b'data: {"candidates": [{]\n\n'], BadAnswer, "provider_bad_answer"),
        ([HELLO[0], chunk(finish="MALFORMED_FUNCTION_CALL")], BadAnswer, "provider_bad_answer"),
        ([HELLO[0], chunk(finish="OTHER")], ProviderError, "provider_error"),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], ProviderRejected, "content_filter"),
        ([HELLO[0], {"error": {"code": 503, "status": "UNAVAILABLE"}}], ProviderError, "provider_error"),
        ([HELLO[0], {"error": {"status": "RESOURCE_EXHAUSTED"}}], ProviderRateLimited, "provider_rate_limited"),
    ],
)
async def test_answers_without_an_end(
    player: Player, target: ModelTarget, events: list[Any], error: type, code: str
) -> None:
    player.says(*events)
    with pytest.raises(error) as caught:
        await ask(target)
    assert (type(caught.value), caught.value.code) == (error, code)
