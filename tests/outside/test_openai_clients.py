"""OpenAI's own clients, on both servers: answers, streams, tools, and errors as the exceptions they have for them."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.outside.javascript import run_program
from tests.outside.site import Server

GREETING = "Hello! I am the scripted provider, at your service."
MODELS = {"scripted": "You said: hello there", "scripted/default": "You said: hello there", "mock/gpt-4o": GREETING}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


@pytest.fixture
def client(server: Server, mock_model: str) -> Iterator[openai.OpenAI]:
    with connect(server) as made:
        yield made


def connect(server: Server, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.api, api_key=key or server.site.key("acme"), max_retries=0, timeout=30)


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", MODELS)
def test_a_whole_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ask("hello there"))
    assert answer.choices[0].message.content == MODELS[model]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.id.startswith("chatcmpl-")
    assert (answer.model, answer.object) == (model, "chat.completion")


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_answer(client: openai.OpenAI, model: str) -> None:
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model=model, messages=ask("hello there"), stream=True, stream_options=options
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    *spoken, counted = chunks
    assert counted.choices == []
    assert counted.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in spoken)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in spoken) == MODELS[model]
    assert [chunk.choices[0].delta.role for chunk in spoken if chunk.choices[0].delta.role] == ["assistant"]
    assert [chunk.choices[0].finish_reason for chunk in spoken if chunk.choices[0].finish_reason] == ["stop"]


@pytest.mark.parametrize("model", ["scripted", "mock/gpt-4o"])
def test_a_tool_is_called_and_its_result_answered(client: openai.OpenAI, model: str) -> None:
    said = "weather in San Francisco"
    if model == "scripted":
        said = '#script [{"tool": "get_weather", "args": {"location": "San Francisco, CA"}}, {"say": "It is sunny"}]'
    first = client.chat.completions.create(model=model, messages=ask(said), tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"location": "San Francisco, CA"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [*ask(said), first.choices[0].message.to_dict(), result]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content.startswith("It is sunny")


def test_a_streamed_tool_call_by_the_client_s_own_accumulator(client: openai.OpenAI) -> None:
    said = ask("weather in San Francisco")
    with client.chat.completions.stream(model="mock/gpt-4o", messages=said, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"location": "San Francisco, CA"}


def test_a_session_continues(client: openai.OpenAI, server: Server) -> None:
    session = {"session_id": f"openai-{server.kind}", "user_id": "u-1"}
    first = client.chat.completions.create(model="scripted", messages=ask("one"), metadata=session)
    again = client.chat.completions.create(model="scripted", messages=ask("two"), metadata=session)
    assert first.metadata["session_id"] == again.metadata["session_id"] == f"openai-{server.kind}"
    assert first.metadata["run_id"] != again.metadata["run_id"]
    with server.client() as http:
        messages = http.get(f"sessions/openai-{server.kind}/messages").json()["data"]
    assert [message["content"] for message in messages] == ["one", "You said: one", "two", "You said: two"]


def test_models_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"assistant", "scripted", "scripted/default"} <= set(names)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "text", "kind", "code"),
    [
        ("nosuch", "x", openai.NotFoundError, "model_not_found"),
        ("nosuch/model", "x", openai.NotFoundError, "model_not_found"),
        ("scripted", '#script [{"fail": 429, "retry_after": 60}]', openai.RateLimitError, "provider_rate_limited"),
        ("scripted", '#script [{"fail": 500}]', openai.InternalServerError, None),
        ("mock/gpt-4o", "CONTEXT_LENGTH_ME", openai.BadRequestError, "context_length_exceeded"),
        ("mock/gpt-4o", "SERVER_ERROR_ME", openai.InternalServerError, None),
    ],
)
def test_errors_are_the_client_s_own(
    client: openai.OpenAI, model: str, text: str, kind: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=ask(text), stream=stream)
    assert code is None or caught.value.code == code
    assert caught.value.request_id == caught.value.body["request_id"]
    assert "exploded" not in str(caught.value.body)


def test_a_wrong_key_and_a_role_too_low(server: Server) -> None:
    with connect(server, "ask_wrong_key") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    viewer = server.site.key("acme", "viewer_api_key")
    with connect(server, viewer) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="scripted", messages=ask("x"))


def test_a_failure_amid_a_stream_is_an_exception(client: openai.OpenAI) -> None:
    text = '#script [{"say": "half an answer"}, {"fail": "cut"}]'
    stream = client.chat.completions.create(model="scripted", messages=ask(text), stream=True)
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(said).strip() == "half an answer"
    assert caught.value.code == "provider_stream_truncated"


@pytest.mark.parametrize("model", MODELS)
def test_the_node_client(node: str, server: Server, mock_model: str, model: str) -> None:
    key = server.site.key("acme")
    found = run_program(node, "openai-client.mjs", BASE_URL=server.api, API_KEY=key, MODEL=model, PROMPT="hello there")
    assert found["whole"] == found["streamed"] == MODELS[model]
    assert found["usage"]["completion_tokens"] > 0
    assert found["chunks"] >= 3  # pieces that come together are joined
    error = found["error"]
    assert (error["name"], error["status"], error["code"]) == ("NotFoundError", 404, "model_not_found")
    assert error["requestID"]
