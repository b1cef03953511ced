"""Every kind of provider, each with its own wire spoken by aimock, through our chat completions.

aimock passes over the fields by which Anthropic's and Google's wires ask for a schema; what is sent in them is seen in
tests/llm. The kinds `local` and `scripted` ask no server, and have tests of their own.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.outside.kinds import KINDS
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


@pytest.fixture(params=KINDS)
def slug(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kinds: dict[str, str], slug: str) -> str:
    return kinds[slug]


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


def test_json_schema(http: httpx.Client, model: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "Joke", "schema": SCHEMA, "strict": True}}
    found = answer(http, model, "Tell me a joke about cats.", response_format=wanted)
    assert set(json.loads(found["message"]["content"])) == {"setup", "punchline"}


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("RATE_LIMIT_ME", 429, "provider_rate_limited"), ("SERVER_ERROR_ME", 502, "provider_error")],
)
def test_failures(http: httpx.Client, kinds: dict[str, str], text: str, status: int, code: str) -> None:
    """All at once, since each is tried again first."""
    asked = [(model, stream) for model in kinds.values() for stream in (False, True)]
    with ThreadPoolExecutor(len(asked)) as threads:
        responses = list(threads.map(lambda ask_for: ask(http, ask_for[0], text, stream=ask_for[1]), asked))
    found = {each: (one.status_code, one.json()["error"]["code"]) for each, one in zip(asked, responses, strict=True)}
    assert found == dict.fromkeys(asked, (status, code))
    assert not any("exploded" in response.text for response in responses)


def test_cut_stream(http: httpx.Client, model: str) -> None:
    found = events(http, model, "TRUNCATE_ME")
    assert found[-1]["error"]["code"] == "provider_stream_truncated"
    assert "fifteen" not in said(found)
    assert not any(choice.get("finish_reason") for each in found for choice in each.get("choices", ()))


def test_models_are_listed(http: httpx.Client, slug: str, aimock: str) -> None:
    """aimock has no list at the addresses of Google's and of Azure's. The provider is the test's own: an agent may have
    no model that is missing in a list.
    """
    provider = {**KINDS[slug].provider(aimock.removesuffix("/v1")), "slug": f"listed-{slug}"}
    assert http.post("providers", json=provider).status_code == 201
    result = http.post(f"providers/listed-{slug}/test").json()
    assert (result["healthy"], bool(result["models"])) == (
        (False, False) if slug in ("google", "azure") else (True, True)
    )
