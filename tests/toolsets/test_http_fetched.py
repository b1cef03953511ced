"""Tools of an OpenAPI document that is fetched, from a real server."""

import json
from typing import Any

import pytest
from django.conf import LazySettings

from core.validation import config_faults
from tests.conftest import Actor
from tests.toolsets.http_api import Api, answer, document, reachable, serving
from toolsets.kinds.http.plan import plan_of
from toolsets.kinds.http.source import MAX_BYTES
from toolsets.kinds.http.toolset import HttpConfig, HttpToolset

__all__ = ["reachable"]
GET, PUT = {"operationId": "get"}, {"operationId": "put"}
ONE = document(("get", "/items", GET))
TWO = document(("get", "/items", GET), ("post", "/items", PUT))
SECRET = "s3cr3t-key"


async def send(actor: Actor, method: str, path: str, body: Any = None) -> Any:
    data = json.dumps(body or {})
    response = await actor.ahttp.generic(method, f"/v1/{path}", data, "application/json", headers=actor.headers)
    assert response.status_code < 300, response.content
    return response.json()


async def make(actor: Actor, **config: Any) -> None:
    secrets = {"token": SECRET} if "auth" in config else {}
    body = {"slug": "api", "name": "API", "kind": "http", "config": config, "secrets": secrets}
    await send(actor, "POST", "toolsets", body)


async def refreshed(actor: Actor, api: Api, *answers: bytes) -> Any:
    api.answers = list(answers)
    return await send(actor, "POST", "toolsets/api/refresh")


async def tools(actor: Actor) -> list[str]:
    return [tool["name"] for tool in (await send(actor, "GET", "toolsets/api/tools"))["data"]]


async def invoke(actor: Actor, tool: str) -> Any:
    return await send(actor, "POST", f"toolsets/api/tools/{tool}/invoke", {"arguments": {}})


def faults(**config: Any) -> list[tuple[str, str]]:
    return [(fault["path"], fault["code"]) for fault in config_faults(HttpConfig, config)]


def test_one_document_and_all_faults_at_once() -> None:
    url = "https://a.example/openapi.json"
    assert faults() == [("config.document", "missing")]
    assert faults(document_url=url) == []
    assert faults(document_url=url, operations=["whatever"]) == []  # known once it is fetched
    both = faults(document=ONE, document_url="ftp://a.example", base_url="x")
    assert [fault[0] for fault in both] == ["config.document_url", "config.base_url", "config.document_url"]
    assert faults(document_url="x", base_url="y", auth="header") == [
        ("config.auth_name", "missing"),
        ("config.document_url", "invalid_url"),
        ("config.base_url", "invalid_url"),
    ]
    assert faults(document_url=url, auth="bearer") == [("config.base_url", "missing")]
    assert faults(document_url=url, auth="bearer", base_url="https://b.example") == []
    assert faults(document_url=url + "?version=2") == []
    assert faults(document_url="https://me@a.example/x") == [("config.document_url", "invalid_url")]


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        (None, "https://a.example"),
        ([{"url": "/v1/"}], "https://a.example/v1"),
        ([{"url": "v1"}], "https://a.example/docs/v1"),
        ([{"url": "{base}", "variables": {"base": {"default": "/v2"}}}], "https://a.example/v2"),
        ([{"url": "//b.example/v1"}], "https://b.example/v1"),
        ([{"url": "https://b.example"}], "https://b.example"),
        ([{"url": "//[x/"}], ""),
        ([{"url": "ftp://b.example"}], ""),
        ([{"url": "/v1?x=1"}], ""),
        ([{"url": 5}], ""),
        ([], ""),
        ("x", ""),
    ],
)
def test_a_relative_server_is_found_from_the_documents_address(servers: Any, found: str) -> None:
    text = document(("get", "/items", GET), **({} if servers is None else {"servers": servers}))
    plan = plan_of(text, "", [], "https://a.example/docs/openapi.json")
    assert (plan.server, bool(plan.faults)) == (found, not found)


@pytest.mark.parametrize(
    "learned", [None, 5, [], {}, {"document": None, "url": 3}, {"document": "{nope", "url": "https://a.example"}]
)
def test_what_was_stored_and_is_no_document_gives_no_tools(learned: Any) -> None:
    config = HttpConfig(document_url="https://a.example/openapi.json")
    assert HttpToolset().learned_tools(config, learned) == []


@pytest.mark.usefixtures("reachable")
async def test_the_tools_follow_the_document(owner: Actor) -> None:
    async with serving() as api:
        await make(owner, document_url=api.url + "/docs/openapi.json?key=1")
        assert (await tools(owner), api.asked) == ([], [])
        assert (await refreshed(owner, api, answer(200, ONE)))["tools"] == ["get"]
        assert api.asked[0].target == "/docs/openapi.json?key=1"
        yaml = "openapi: 3.1.0\npaths:\n  /things:\n    put:\n      operationId: put\nservers: [{url: ../v2}]\n"
        assert (await refreshed(owner, api, answer(200, yaml, "text/yaml")))["tools"] == ["put"]
        assert await tools(owner) == ["put"]
        api.answers = [answer(200, '{"done": true}')]
        assert not (await invoke(owner, "put"))["is_error"]
        assert (api.asked[-1].method, api.asked[-1].target) == ("PUT", "/v2/things")
        kept = await refreshed(owner, api, answer(200, "openapi: [", "text/yaml"))
        assert "document: The document cannot be read as YAML" in kept["learn_error"]
        assert (kept["tools"], await tools(owner)) == (["put"], ["put"])


@pytest.mark.usefixtures("reachable")
async def test_a_chosen_operation_that_is_gone_is_told_and_the_old_tools_stay(owner: Actor) -> None:
    async with serving() as api:
        await make(owner, document_url=api.url + "/openapi.json", operations=["put"])
        await refreshed(owner, api, answer(200, TWO))
        kept = await refreshed(owner, api, answer(200, ONE))
    assert kept["learn_error"] == "operations.0: The document has no operation 'put'."
    assert await tools(owner) == ["put"]


@pytest.mark.usefixtures("reachable")
async def test_the_document_cannot_send_the_secret_elsewhere(owner: Actor) -> None:
    async with serving() as api, serving() as thief:
        base = {"document_url": thief.url + "/openapi.json", "base_url": api.url + "/v1"}
        await make(owner, **base, auth="bearer")
        stolen = document(("get", "/items", GET), servers=[{"url": thief.url}])
        await refreshed(owner, thief, answer(200, stolen))
        await invoke(owner, "get")
    assert [asked.target for asked in thief.asked] == ["/openapi.json"]
    assert "authorization" not in thief.asked[0].headers
    assert (api.asked[0].target, api.asked[0].headers["authorization"]) == ("/v1/items", f"Bearer {SECRET}")


@pytest.mark.usefixtures("reachable")
@pytest.mark.parametrize(
    ("first", "error"),
    [
        (answer(404, "secret words of the server"), "The server answered 404."),
        (answer(200, b"\xff\xfe"), "no text in UTF-8"),
        (answer(200, ONE, "text/html"), "text/html cannot be read"),
        (answer(200, b" " * (MAX_BYTES + 1)), "larger than 2,000,000 bytes"),
        (answer(200, '{"openapi": "3.1.0", "paths": {}}'), "document: The document has no operation"),
        (answer(302, "", Location="http://169.254.169.254/latest/"), "no address on the public internet"),
    ],
)
async def test_why_it_could_not_be_learned(owner: Actor, first: bytes, error: str) -> None:
    async with serving() as api:
        await make(owner, document_url=api.url + "/openapi.json")
        found = await refreshed(owner, api, first)
    assert error in found["learn_error"]
    assert "secret words" not in found["learn_error"]
    assert found["tools"] == []


async def test_a_private_address_is_not_asked(owner: Actor, settings: LazySettings) -> None:
    async with serving() as api:
        settings.ALLOW_PRIVATE_TOOLS = True
        await make(owner, document_url=api.url + "/openapi.json")
        settings.ALLOW_PRIVATE_TOOLS = False
        found = await refreshed(owner, api, answer(200, ONE))
    assert "no address on the public internet" in found["learn_error"]
    assert api.asked == []


@pytest.mark.usefixtures("reachable")
async def test_a_redirect_is_where_the_document_is(owner: Actor) -> None:
    async with serving() as api, serving() as real:
        await make(owner, document_url=api.url + "/openapi.json")
        real.answers = [answer(200, document(("get", "/items", GET), servers=[{"url": "v3"}]))]
        moved = answer(302, "", Location=real.url + "/docs/openapi.json?signature=1")
        assert (await refreshed(owner, api, moved))["tools"] == ["get"]
        await invoke(owner, "get")
    assert real.asked[-1].target == "/docs/v3/items"
