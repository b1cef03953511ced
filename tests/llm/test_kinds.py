"""What every kind that speaks HTTP promises: faults, the end of a call, the address policy, its list of models."""

import asyncio
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llm.exceptions import (
    ModelNotFound,
    ProviderAuthentication,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
)
from llm.gateway import gateway
from llm.providers import provider_kind, provider_kinds
from llm.providers.base import RemoteKind
from llm.wire import ChatRequest
from tests.llm import test_anthropic, test_cohere, test_google
from tests.llm.playing import USER, Player, ask, target_of
from tests.llm.upstream import GOOD, SECRET_TEXT, TEXT

CHECKOUT = Path(__file__).parents[2]
OPENAI = ["openai", "mistral", "huggingface", "ollama"]
WIRES: dict[str, list[Any]] = {
    **dict.fromkeys(OPENAI, GOOD),
    "anthropic": [test_anthropic.START, *test_anthropic.TEXT, test_anthropic.ends("end_turn"), test_anthropic.STOP],
    "google": [*test_google.HELLO, test_google.END],
    "cohere": [*test_cohere.HELLO, test_cohere.ends("COMPLETE")],
}
PIECES: dict[str, Any] = {
    **dict.fromkeys(OPENAI, TEXT[0]),
    "anthropic": test_anthropic.TEXT[1],
    "google": test_google.HELLO[1],
    "cohere": test_cohere.HELLO[2],
}
LISTS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(OPENAI, ("/v1/models", {"data": [{"id": "b"}, {"id": "a"}]})),
    "anthropic": ("/v1/models?limit=1000", {"data": [{"type": "model", "id": "b"}, {"id": "a"}], "has_more": False}),
    "google": ("/v1beta/models?pageSize=1000", {"models": [{"name": "models/b"}, {"name": "models/a"}]}),
    "cohere": ("/v1/models?endpoint=chat&page_size=1000", {"models": [{"name": "b"}, {"name": "a"}]}),
}
every_kind = pytest.mark.parametrize("kind", WIRES)


def test_this_is_every_kind_with_an_address() -> None:
    assert {kind.slug for kind in provider_kinds() if isinstance(kind, RemoteKind)} == set(WIRES)


def base_of(kind: str, url: str) -> str:
    return f"{url}/v1" if kind == "openai" else url


@every_kind
async def test_models_are_listed(player: Player, kind: str) -> None:
    path, body = LISTS[kind]
    player.lists(body)
    found, connection = provider_kind(kind), target_of(kind, base_of(kind, player.url)).connection
    assert found is not None
    assert await found.list_models(connection) == ["a", "b"]
    assert player.paths == [path]
    player.fails(401, {"error": {"message": SECRET_TEXT}})
    with pytest.raises(ProviderAuthentication):
        await found.list_models(connection)
    player.fails(404)
    with pytest.raises(ProviderError, match="base_url"):
        await found.list_models(connection)


@every_kind
@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (400, {}, ProviderRejected, "provider_rejected"),
        (400, {"error": {"code": "model_not_found"}}, ModelNotFound, "model_not_found"),
        (400, {"error": {"message": "prompt is too long: 9 tokens"}}, ProviderRejected, "context_length_exceeded"),
        (401, {}, ProviderAuthentication, "provider_authentication"),
        (402, {}, ProviderError, "provider_quota_exhausted"),
        (404, {}, ModelNotFound, "model_not_found"),
        (429, {}, ProviderRateLimited, "provider_rate_limited"),
        (500, {}, ProviderError, "provider_error"),
        (529, {}, ProviderError, "provider_error"),
    ],
)
async def test_failures_before_the_answer(
    player: Player, kind: str, status: int, body: Any, error: type, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"error": {"message": SECRET_TEXT, **body.get("error", {})}}
    player.fails(status, said, {"Retry-After": "7"} if status == 429 else None)
    with pytest.raises(error) as caught:
        await ask(target_of(kind, player.url))
    assert (type(caught.value), caught.value.code) == (error, code)
    assert caught.value.retry_after == (7 if status == 429 else None)
    assert SECRET_TEXT not in str(caught.value.body()) + caplog.text


@every_kind
async def test_a_connection_is_used_again(player: Player, kind: str) -> None:
    for _ in range(4):
        player.says(*WIRES[kind])
        assert (await ask(target_of(kind, player.url))).finish_reason == "stop"
    assert len(player.connections) == 1


@every_kind
async def test_every_byte_alone(player: Player, kind: str) -> None:
    player.says(*WIRES[kind])
    whole = b"".join(player.parts)
    expected = (await ask(target_of(kind, player.url))).text
    player.parts = [bytes([byte]) for byte in whole]
    assert (await ask(target_of(kind, player.url))).text == expected
    assert expected


async def end_a_call(player: Player, kind: str, how: str) -> float:
    """Seconds from the end of our call to the end of the provider's."""
    player.reset()
    player.says(PIECES[kind])
    player.endless = True
    got = asyncio.Event()
    target = target_of(kind, player.url)

    async def read() -> None:
        async with aclosing(gateway.stream(ChatRequest(target.model, [USER]), target)) as deltas:
            async for _ in deltas:
                got.set()
                if how == "close":
                    return

    task = asyncio.create_task(read())
    await got.wait()
    ended = time.monotonic()
    if how == "cancel":
        task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.1)
    return player.closed_at - ended if player.closed_at else 9


@every_kind
@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_ending_a_call_closes_the_upstream_at_once(player: Player, kind: str, how: str) -> None:
    """The best of some: the machine that runs the tests may be busy."""
    for _ in range(3):
        if await end_a_call(player, kind, how) < 0.1:
            return
    pytest.fail("The provider was kept generating.")


@every_kind
async def test_redirects_are_not_followed(player: Player, kind: str) -> None:
    """Neither the key nor the conversation goes where an answer says."""
    player.whole = web.Response(status=307, headers={"Location": f"{player.url}/elsewhere"})
    target = target_of(kind, player.url)
    with pytest.raises(ProviderError) as caught:
        await ask(target)
    found = provider_kind(kind)
    assert found is not None
    with pytest.raises(ProviderError):
        await found.list_models(target.connection)
    assert caught.value.code == "provider_redirected"
    assert (len(player.paths), "/elsewhere" in player.paths) == (2, False)


@every_kind
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"])
async def test_private_addresses_are_refused(player: Player, settings, kind: str, host: str) -> None:
    """`localhost` is a name: it is refused when it has been resolved."""
    settings.ALLOW_PRIVATE_PROVIDERS = False
    port = player.url.rpartition(":")[2]
    target = target_of(kind, f"http://{host}:{port}")
    with pytest.raises(ProviderError) as caught:
        await ask(target)
    found = provider_kind(kind)
    assert found is not None
    with pytest.raises(ProviderError) as listed:
        await found.list_models(target.connection)
    assert (caught.value.code, listed.value.code) == ("address_refused", "address_refused")
    assert player.paths == []


@every_kind
@pytest.mark.parametrize(
    "extra", ["x", None, [], {"google": "x", "anthropic": "x"}, {"google": None, "anthropic": {"thinking": "x"}}]
)
async def test_a_client_s_own_extra_content_breaks_nothing(player: Player, kind: str, extra: Any) -> None:
    player.says(*WIRES[kind])
    calling = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "extra_content": extra}]}
    assert (await ask(target_of(kind, player.url), [USER, calling, RESULT])).finish_reason == "stop"


async def test_metadata_services_are_never_reached() -> None:
    with pytest.raises(ProviderError) as caught:
        await ask(target_of("anthropic", "http://169.254.169.254"))
    assert caught.value.code == "address_refused"


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "sub", "parameters": {"type": "object"}}}
CALL = {
    "id": "call_0123456789",
    "type": "function",
    "function": {"name": "add", "arguments": "{}"},
    "extra_content": {"google": {}},
}


RESULT = {"role": "tool", "tool_call_id": CALL["id"], "content": "3"}


async def test_mistral_is_sent_only_what_it_knows(player: Player) -> None:
    player.says(*GOOD)
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Go", "name": "me"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": CALL["id"], "content": "3"},
        {"role": "assistant", "content": "It is"},
    ]
    await ask(
        target_of("mistral", player.url),
        messages,
        seed=7,
        max_completion_tokens=9,
        tools=[TOOL],
        tool_choice="required",
        logit_bias={"1": 1},
        user="me",
    )
    sent = player.bodies[0]
    assert sent.keys() == {
        *("model", "messages", "stream", "random_seed", "max_tokens", "tools", "tool_choice"),
    }
    assert (sent["random_seed"], sent["max_tokens"], sent["tool_choice"]) == (7, 9, "any")
    system, user, calling, result, begun = sent["messages"]
    assert (system["role"], user, begun["prefix"]) == ("system", {"role": "user", "content": "Go"}, True)
    (call,) = calling["tool_calls"]
    assert call.keys() == {"id", "type", "function"}
    assert (len(call["id"]), call["id"].isalnum(), result["tool_call_id"]) == (9, True, call["id"])
    assert messages[4] == {"role": "assistant", "content": "It is"}


async def test_what_another_provider_wants_back_is_not_sent(player: Player) -> None:
    """As after a change of provider in mid-conversation; what is its own goes back."""
    player.says(*GOOD)
    calls = [{**CALL, "extra_content": {"google": {"thought_signature": "s"}, "own": 1}}, CALL]
    await ask(target_of("openai", player.url), [USER, {"role": "assistant", "content": None, "tool_calls": calls}])
    first, second = player.bodies[0]["messages"][1]["tool_calls"]
    assert (first["extra_content"], "extra_content" in second) == ({"own": 1}, False)
    assert calls[1] is CALL
    assert "extra_content" in CALL


@pytest.mark.parametrize(
    ("choice", "tools"),
    [("none", None), ({"type": "function", "function": {"name": "sub"}}, [OTHER]), ("auto", [TOOL, OTHER])],
)
async def test_ollama_is_shown_the_tools_that_may_be_called(player: Player, choice: Any, tools: Any) -> None:
    player.says(*GOOD)
    await ask(target_of("ollama", player.url), tools=[TOOL, OTHER], tool_choice=choice, max_completion_tokens=9)
    assert (player.bodies[0].get("tools"), player.bodies[0]["max_tokens"]) == (tools, 9)


async def test_hugging_face_is_told_who_pays(player: Player) -> None:
    player.says(*GOOD)
    await ask(target_of("huggingface", player.url, bill_to="acme"))
    assert (player.headers[0]["X-HF-Bill-To"], player.headers[0]["Authorization"]) == ("acme", "Bearer sk-test-key")


async def test_a_deployment_of_azure(player: Player) -> None:
    """Its key has a header of its own, every URL a version, and the resource lists the models."""
    player.says(*GOOD)
    base_url = f"{player.url}/openai/deployments/gpt"
    target = target_of("openai", base_url, key_header="api-key", api_version="2024-10-21", max_tokens_only=True)
    await ask(target, max_completion_tokens=9)
    player.lists({"data": [{"id": "gpt"}]})
    kind = provider_kind("openai")
    assert kind is not None
    assert await kind.list_models(target.connection) == ["gpt"]
    assert player.paths == [
        "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        "/openai/models?api-version=2024-10-21",
    ]
    assert (player.headers[0]["api-key"], "Authorization" in player.headers[0]) == ("sk-test-key", False)
    assert player.bodies[0]["max_tokens"] == 9


LOADED = """
import sys
from llm.providers import provider_kinds
assert provider_kinds()
print(sorted({"aiohttp", "httpx", "langchain_core", "openai"} & set(sys.modules)))
"""


def test_naming_the_kinds_loads_no_client() -> None:
    """A server without providers, and every management command, must not pay for them."""
    result = subprocess.run([sys.executable, "-c", LOADED], cwd=CHECKOUT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


SERVED = """
import sys
from agentsite.asgi import application
assert application
print(sorted({"langchain_core", "langgraph", "openai", "requests", "twisted"} & set(sys.modules)))
import requests
"""


def test_a_server_starts_without_what_it_may_never_need() -> None:
    result = subprocess.run([sys.executable, "-c", SERVED], cwd=CHECKOUT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_presets_are_what_their_kind_takes() -> None:
    for kind in provider_kinds():
        for preset in kind.presets:
            kind.Settings.model_validate(preset.settings)
        assert len({preset.slug for preset in kind.presets}) == len(kind.presets)
