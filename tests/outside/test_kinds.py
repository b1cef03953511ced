"""Every kind of provider, each with its own wire spoken by aimock, through our chat completions.

aimock does not understand the fields by which Anthropic's and Google's wires ask for a schema: whether they were sent is
read in its journal. The kinds `local` and `scripted` ask no server, and have tests of their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.outside.site import Server

HELLO = "Hello! I am the scripted provider, at your service."
SCHEMA = {
    "type": "object",
    "properties": {"setup": {"type": "string"}, "punchline": {"type": "string"}},
    "required": ["setup", "punchline"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather.",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


@dataclass(frozen=True)
class Kind:
    kind: str
    model: str
    path: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "openai": Kind("openai", "gpt-4o", "/v1"),
    "azure": Kind(
        "openai", "gpt-4o", "/openai/deployments/gpt-4o", {"key_header": "api-key", "api_version": "2024-10-21"}
    ),
    "anthropic": Kind("anthropic", "claude-sonnet-4-5"),
    "google": Kind("google", "gemini-2.5-flash"),
    "cohere": Kind("cohere", "command-r-plus"),
    "mistral": Kind("mistral", "mistral-large-latest"),
    "huggingface": Kind("huggingface", "openai/gpt-oss-120b:groq"),
    "ollama": Kind("ollama", "llama3"),
}


@pytest.fixture(scope="session")
def providers(uvicorn: Server, aimock: str) -> Iterator[dict[str, str]]:
    """The name of each kind's model."""
    root = aimock.removesuffix("/v1")
    with uvicorn.client() as http:
        for slug, kind in KINDS.items():
            body = {
                "slug": f"kind-{slug}",
                "kind": kind.kind,
                "base_url": root + kind.path,
                "api_key": "mock-key",
                "settings": kind.settings,
            }
            response = http.post("providers", json=body)
            assert response.status_code == 201, response.text
    yield {slug: f"kind-{slug}/{kind.model}" for slug, kind in KINDS.items()}


@pytest.fixture(params=KINDS)
def slug(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(providers: dict[str, str], slug: str) -> str:
    return providers[slug]


@pytest.fixture
def http(uvicorn: Server) -> Iterator[httpx.Client]:
    with uvicorn.client() as client:
        yield client


def ask(http: httpx.Client, model: str, text: str, **params: Any) -> httpx.Response:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return http.post("chat/completions", json={"model": model, "messages": messages, **params})


def answer(http: httpx.Client, model: str, text: str, **params: Any) -> dict[str, Any]:
    response = ask(http, model, text, **params)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def events(http: httpx.Client, model: str, text: str, **params: Any) -> list[dict[str, Any]]:
    response = ask(http, model, text, stream=True, **params)
    assert response.status_code == 200, response.text
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


def said(found: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for each in found for choice in each.get("choices", ()))


def last_request(aimock: str) -> Any:
    journal = httpx.get(f"{aimock.removesuffix('/v1')}/__aimock/journal", trust_env=False).json()
    entries = journal if isinstance(journal, list) else journal["entries"]
    return entries[-1]


def test_answer(http: httpx.Client, model: str) -> None:
    found = answer(http, model, "hi")
    assert (found["message"]["content"], found["finish_reason"]) == (HELLO, "stop")


def test_stream(http: httpx.Client, model: str) -> None:
    found = events(http, model, "hi")
    assert said(found) == HELLO
    assert len(found) > 2
    finishes = [choice["finish_reason"] for each in found for choice in each["choices"] if choice["finish_reason"]]
    assert finishes == ["stop"]


def test_tool_call_and_its_result(http: httpx.Client, model: str) -> None:
    asked = {"role": "user", "content": "What is the weather in San Francisco, CA?"}
    found = answer(http, model, asked["content"], tools=[WEATHER])
    (call,) = found["message"]["tool_calls"]
    assert (call["function"]["name"], found["finish_reason"]) == ("get_weather", "tool_calls")
    assert json.loads(call["function"]["arguments"]) == {"location": "San Francisco, CA"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    messages = [asked, found["message"], result]
    response = http.post("chat/completions", json={"model": model, "messages": messages, "tools": [WEATHER]})
    assert response.json()["choices"][0]["message"]["content"] == "It is sunny in San Francisco."


def test_streamed_tool_call(http: httpx.Client, model: str) -> None:
    found = events(http, model, "What is the weather in San Francisco, CA?", tools=[WEATHER], tool_choice="required")
    calls = [call for each in found for c in each["choices"] for call in c["delta"].get("tool_calls") or ()]
    assert {call["index"] for call in calls} == {0}
    assert [call["function"]["name"] for call in calls if call["function"].get("name")] == ["get_weather"]
    arguments = "".join(call["function"].get("arguments") or "" for call in calls)
    assert json.loads(arguments) == {"location": "San Francisco, CA"}


def test_json_schema(http: httpx.Client, model: str, aimock: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "Joke", "schema": SCHEMA, "strict": True}}
    found = answer(http, model, "Tell me a joke about cats.", response_format=wanted)
    assert set(json.loads(found["message"]["content"])) == {"setup", "punchline"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("RATE_LIMIT_ME", 429, "provider_rate_limited"), ("SERVER_ERROR_ME", 502, "provider_error")],
)
def test_failures(http: httpx.Client, model: str, text: str, status: int, code: str, stream: bool) -> None:
    response = ask(http, model, text, stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert "exploded" not in response.text


def test_cut_stream(http: httpx.Client, model: str) -> None:
    found = events(http, model, "TRUNCATE_ME")
    assert found[-1]["error"]["code"] == "provider_stream_truncated"
    assert "fifteen" not in said(found)
    assert not any(choice.get("finish_reason") for each in found for choice in each.get("choices", ()))


def test_models_are_listed(http: httpx.Client, providers: dict[str, str], slug: str) -> None:
    result = http.post(f"providers/kind-{slug}/test").json()
    print(result)
